//! The rules that a tensor must keep before anything of it is written.

use std::collections::HashMap;

use super::{Component, MAX_LEVEL, Tensor};
use crate::dtype::DType;
use crate::error::{Result, ensure, fail};
use crate::index::{ComponentRecord, check_name};
use crate::layout::{Geometry, Layout, MAX_NDIM, MAX_ROLES, Part};
use crate::metadata::{self, Metadata, Value};
use crate::progress::Checkpoint;

impl Tensor<'_> {
    pub(super) fn check(&self, checkpoint: Checkpoint<'_>) -> Result<()> {
        check_name(self.name)?;
        let ndim = self.shape.len();
        ensure!(ndim <= MAX_NDIM, Shape, "{ndim} dimensions, the limit is {MAX_NDIM}");
        ensure!(
            (0..=MAX_LEVEL).contains(&self.level),
            Argument,
            "compression level {}, levels are 1 to {MAX_LEVEL}, or 0 for none",
            self.level
        );
        metadata::check(&self.attributes, "attributes")?;
        let roles = self.layout.roles();
        ensure!(
            self.components.len() == roles.len(),
            Layout,
            "{} components, a {} tensor has {}",
            self.components.len(),
            self.layout.name(),
            roles.len()
        );
        ensure!(
            !self.layout.is_blocked() || !self.attributes.contains_key("blocksize"),
            Argument,
            "the attribute \"blocksize\" is set by the size of blocks itself"
        );
        let geometry = Geometry {
            layout: self.layout,
            dtype: self.dtype,
            shape: self.shape,
            blocksize: self.effective_blocksize(),
        };
        geometry.check_shape()?;
        let mut parts = [Part::NOTHING; MAX_ROLES];
        for (place, component) in parts.iter_mut().zip(self.components) {
            *place = Part { dtype: component.dtype, len: component.bytes.len() as u64 };
        }
        geometry.check_parts(&parts[..roles.len()])?;
        if self.dtype == DType::Bool {
            check_bools(self.components[0].bytes, checkpoint)?;
        }
        if self.layout == Layout::Dense {
            return Ok(());
        }
        let stored = geometry.stored_count(parts[0])?;
        self.components.iter().zip(roles).try_for_each(|(component, role)| {
            geometry
                .check_values((*role, component.dtype), (component.bytes, 0), stored, checkpoint)
                .map_err(|err| err.in_component(role.name()))
        })
    }

    fn effective_blocksize(&self) -> Option<[u64; 2]> {
        self.blocksize.filter(|_| self.layout.is_blocked())
    }

    /// The attributes as they are stored: the size of blocks is one of them.
    pub(super) fn all_attributes(&self) -> Metadata {
        let mut attributes = self.attributes.clone();
        if let Some(blocksize) = self.effective_blocksize() {
            let sizes = blocksize.into_iter().map(Value::from).collect();
            attributes.insert("blocksize".to_owned(), Value::Array(sizes));
        }
        attributes
    }
}

/// Checks that every byte is 0 or 1.
fn check_bools(bytes: &[u8], checkpoint: Checkpoint<'_>) -> Result<()> {
    /// So many bytes at once, so that the search runs on vectors.
    const BLOCK: usize = 4096;
    for (number, part) in bytes.chunks(1024 * BLOCK).enumerate() {
        checkpoint()?;
        let is_wrong = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) > 1;
        let found = part.chunks(BLOCK).any(is_wrong).then(|| part.iter().position(|&byte| byte > 1));
        if let Some(Some(at)) = found {
            fail!(
                Argument,
                "byte {} of the bools is {}; a bool is 0 or 1",
                number * 1024 * BLOCK + at,
                part[at]
            );
        }
    }
    Ok(())
}

/// Checks that components that are said to be the same bytes have the same length.
pub(super) fn check_shared<'a>(
    known: &HashMap<(u64, DType), (usize, ComponentRecord)>,
    lens: &mut HashMap<(u64, DType), usize>,
    components: impl Iterator<Item = &'a Component<'a>>,
) -> Result<()> {
    for component in components.filter(|component| component.share != 0) {
        let key = (component.share, component.dtype);
        let len = component.bytes.len();
        let first = known.get(&key).map(|(len, _)| *len).unwrap_or_else(|| *lens.entry(key).or_insert(len));
        ensure!(
            first == len,
            Argument,
            "a component of {len} bytes is said to be the same as one of {first} bytes (share number {})",
            component.share
        );
    }
    Ok(())
}
