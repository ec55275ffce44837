//! The table of names: which tensor has this one.

use std::hash::BuildHasher;

use super::Index;
use crate::error::{Error, ErrorKind, Result};

impl Index {
    /// The number of the tensor of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.find_hashed(name, self.hash(name))
    }

    /// The hash of a name, which depends on this index.
    pub(crate) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// As [`Index::find`], given the name's hash.
    pub(crate) fn find_hashed(&self, name: &str, hash: u64) -> Option<usize> {
        self.by_name.find(hash, |&at| self.name_of(at) == name).map(|&at| at as usize)
    }

    pub(super) fn name_of(&self, at: u32) -> &str {
        self.tensors[at as usize].name_in(&self.names)
    }

    /// Enters the names of all tensors into the table.
    ///
    /// # Errors
    ///
    /// `Duplicate` for a name that stands twice; `Memory`.
    pub(super) fn enter_names(&mut self) -> Result<()> {
        const BLOCK: usize = 64;
        self.reserve_names(self.tensors.len())?;
        let ensure_new = |name: &str, is_new| {
            let err = || Error::new(ErrorKind::Duplicate, "two tensors have this name").in_tensor(name);
            if is_new { Ok(()) } else { Err(err()) }
        };
        let mut hashes = [0; BLOCK];
        let mut alike = Vec::new();
        for start in (0..self.tensors.len()).step_by(BLOCK) {
            let block = start..self.tensors.len().min(start + BLOCK);
            for (hash, at) in hashes.iter_mut().zip(block.clone()) {
                *hash = self.hash(self.name_of(at as u32));
            }
            // A large table is in no cache, and names are in none either. While nothing depends on what is found, the processor
            // waits for several places at once.
            alike.clear();
            for (&hash, at) in hashes.iter().zip(block.clone()) {
                self.by_name.find(hash, |&other| {
                    alike.push((at as u32, other));
                    false
                });
            }
            for &(at, other) in &alike {
                let name = self.name_of(at);
                ensure_new(name, self.name_of(other) != name)?;
            }
            for (&hash, at) in hashes.iter().zip(block) {
                let name = self.name_of(at as u32);
                ensure_new(name, self.find_hashed(name, hash).is_none())?;
                self.insert_name(at as u32, hash);
            }
        }
        Ok(())
    }

    /// Enters a name that is not in the table.
    pub(super) fn insert_name(&mut self, at: u32, hash: u64) {
        let (names, tensors, hasher) = (&self.names, &self.tensors, &self.hasher);
        self.by_name
            .insert_unique(hash, at, |&other| hasher.hash_one(tensors[other as usize].name_in(names)));
    }

    /// Makes room in the table of names.
    pub(super) fn reserve_names(&mut self, count: usize) -> Result<()> {
        let (names, tensors, hasher) = (&self.names, &self.tensors, &self.hasher);
        self.by_name
            .try_reserve(count, |&at| hasher.hash_one(tensors[at as usize].name_in(names)))
            .map_err(Error::from)
    }
}
