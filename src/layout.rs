//! How a tensor's elements lie in its components, and the rules that components keep.
//!
//! A new layout is one variant here with its row of roles and its rule of sizes, and a converter in each
//! Python front end.

use std::ffi::CStr;

use crate::dtype::{DType, Name, Named};
use crate::error::{Result, ensure, fail};
use crate::progress::Checkpoint;

/// A layout. Its number is the code that C knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Layout {
    /// All elements, in C order.
    Dense = 1,
    /// Compressed sparse rows.
    SparseCsr,
    /// Compressed sparse columns.
    SparseCsc,
    /// Coordinates.
    SparseCoo,
    /// Block compressed sparse rows.
    SparseBsr,
    /// Block compressed sparse columns.
    SparseBsc,
}

/// What a component is to its layout. Its number is the code that C knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Role {
    /// The elements of a dense tensor.
    Data = 1,
    /// The stored elements of a sparse tensor.
    Values,
    /// The columns, rows or coordinates of the stored elements.
    Indices,
    /// Where each compressed row or column begins among the stored elements.
    Indptr,
}

impl Role {
    const NAMES: [Name; 4] =
        [Name::new(c"data"), Name::new(c"values"), Name::new(c"indices"), Name::new(c"indptr")];
    const ALL: [Role; 4] = [Role::Data, Role::Values, Role::Indices, Role::Indptr];

    fn row(self) -> Name {
        Self::NAMES[self as usize - 1]
    }

    /// The role's name in the index.
    pub fn name(self) -> &'static str {
        self.row().text
    }

    /// The role's name in the index, for C.
    pub(crate) fn c_name(self) -> &'static CStr {
        self.row().c
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The role of this code.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?.checked_sub(1)?).copied()
    }
}

impl Named for Role {
    fn name(self) -> &'static str {
        self.name()
    }
}

impl Layout {
    const ALL: [Layout; 6] = [
        Layout::Dense,
        Layout::SparseCsr,
        Layout::SparseCsc,
        Layout::SparseCoo,
        Layout::SparseBsr,
        Layout::SparseBsc,
    ];
    const NAMES: [Name; 6] = [
        Name::new(c"dense"),
        Name::new(c"sparse_csr"),
        Name::new(c"sparse_csc"),
        Name::new(c"sparse_coo"),
        Name::new(c"sparse_bsr"),
        Name::new(c"sparse_bsc"),
    ];

    /// Every layout, in the order of the codes.
    pub fn all() -> impl ExactSizeIterator<Item = Layout> {
        Self::ALL.into_iter()
    }

    fn row(self) -> Name {
        Self::NAMES[self as usize - 1]
    }

    /// The layout's name in the index.
    pub fn name(self) -> &'static str {
        self.row().text
    }

    /// The layout's name in the index, for C.
    pub(crate) fn c_name(self) -> &'static CStr {
        self.row().c
    }

    /// The layout of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|layout| layout.name() == name)
    }

    /// The layout of this code.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?.checked_sub(1)?).copied()
    }

    /// The roles of its components, in order.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Dense => &[Role::Data],
            Self::SparseCoo => &[Role::Values, Role::Indices],
            _ => &[Role::Values, Role::Indices, Role::Indptr],
        }
    }

    /// Whether stored elements come as blocks, whose size the attribute `blocksize` states.
    pub fn is_blocked(self) -> bool {
        matches!(self, Self::SparseBsr | Self::SparseBsc)
    }

    /// Along which of the two dimensions rows are compressed: the one that `indptr` runs over.
    fn compressed_dim(self) -> usize {
        match self {
            Self::SparseCsc | Self::SparseBsc => 1,
            _ => 0,
        }
    }
}

impl Named for Layout {
    fn name(self) -> &'static str {
        self.name()
    }
}

/// The most dimensions that a tensor has.
pub(crate) const MAX_NDIM: usize = 64;

/// The most components that a layout has.
pub(crate) const MAX_ROLES: usize = 3;

/// A component as the rules of sizes see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) dtype: DType,
    /// Bytes, decoded.
    pub(crate) len: u64,
}

impl Part {
    /// For places of a list that nothing was put into yet.
    pub(crate) const NOTHING: Self = Self { dtype: DType::UInt8, len: 0 };
}

/// What is known of a tensor when its components are to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry<'a> {
    pub(crate) layout: Layout,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [u64],
    /// Of the blocked layouts.
    pub(crate) blocksize: Option<[u64; 2]>,
}

/// The number of elements of a shape, or `None` when the product, zeros left out, passes 2^63 - 1.
pub(crate) fn element_count(shape: &[u64]) -> Option<u64> {
    let product =
        shape.iter().filter(|&&dim| dim != 0).try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let product = product.filter(|&product| product <= i64::MAX as u64)?;
    Some(if shape.contains(&0) { 0 } else { product })
}

impl Geometry<'_> {
    /// Checks element types and byte counts of the components, which stand in the order of the layout's roles.
    pub(crate) fn check_parts(&self, parts: &[Part]) -> Result<()> {
        let Some(count) = element_count(self.shape) else {
            fail!(Shape, "shape {:?} has more than 2^63 - 1 elements", self.shape);
        };
        let first = parts[0];
        ensure!(
            first.dtype == self.dtype,
            Layout,
            "the tensor is {}, its component {:?} is {}",
            self.dtype.name(),
            self.layout.roles()[0].name(),
            first.dtype.name()
        );
        if self.layout == Layout::Dense {
            return expect_len("data", first, Some(count));
        }
        let stored = self.stored_count(first)?;
        for (role, part) in self.layout.roles().iter().zip(parts).skip(1) {
            ensure!(
                part.dtype.is_integer(),
                Layout,
                "component {:?} is {}, index components are integers",
                role.name(),
                part.dtype.name()
            );
            expect_len(role.name(), *part, self.index_count(*role, stored))?;
        }
        Ok(())
    }

    /// The number of stored elements, or of stored blocks, that the bytes of `values` hold.
    pub(crate) fn stored_count(&self, values: Part) -> Result<u64> {
        let per_block = match self.blocksize {
            Some([rows, columns]) => rows.checked_mul(columns),
            None => Some(1),
        };
        let bytes =
            per_block.and_then(|count| count.checked_mul(values.dtype.size() as u64)).filter(|&b| b > 0);
        let Some(bytes) = bytes else {
            fail!(Layout, "blocksize {:?} is not a size of blocks", self.blocksize);
        };
        ensure!(
            values.len.is_multiple_of(bytes),
            Size,
            "component \"values\" has {} bytes, which is no multiple of the {bytes} that each stored entry takes",
            values.len
        );
        Ok(values.len / bytes)
    }

    /// The number of index values that a role asks for, given the number of stored entries.
    fn index_count(&self, role: Role, stored: u64) -> Option<u64> {
        match role {
            Role::Indptr => self.compressed_len().checked_add(1),
            _ if self.layout == Layout::SparseCoo => stored.checked_mul(self.shape.len() as u64),
            _ => Some(stored),
        }
    }

    /// How many rows, columns or block rows `indptr` runs over.
    fn compressed_len(&self) -> u64 {
        self.grid(self.layout.compressed_dim())
    }

    /// The length of a dimension, in blocks where the layout is blocked.
    fn grid(&self, dim: usize) -> u64 {
        self.shape[dim] / self.blocksize.map_or(1, |blocksize| blocksize[dim])
    }

    /// Checks the number of dimensions, and that the size of blocks is there when the layout is blocked, and
    /// divides the shape.
    pub(crate) fn check_shape(&self) -> Result<()> {
        match self.layout {
            Layout::Dense => {}
            Layout::SparseCoo => ensure!(
                !self.shape.is_empty(),
                Layout,
                "a sparse_coo tensor has at least one dimension, this one has none"
            ),
            _ => ensure!(
                self.shape.len() == 2,
                Layout,
                "a {} tensor has two dimensions, this one has shape {:?}",
                self.layout.name(),
                self.shape
            ),
        }
        match (self.layout.is_blocked(), self.blocksize) {
            (false, _) => Ok(()),
            (true, None) => {
                fail!(
                    Layout,
                    "a {} tensor needs the attribute \"blocksize\", two positive integers",
                    self.layout.name()
                )
            }
            (true, Some(blocksize)) => {
                ensure!(
                    self.shape.len() == 2
                        && blocksize
                            .iter()
                            .zip(self.shape)
                            .all(|(block, dim)| *block > 0 && dim % block == 0),
                    Layout,
                    "blocks of {blocksize:?} do not divide the shape {:?}",
                    self.shape
                );
                Ok(())
            }
        }
    }

    /// Checks index values, little-endian in `bytes`, of which the first is value number `first` of the
    /// component; `stored` is the number of stored entries.
    ///
    /// `indices` must lie inside the shape. `indptr` must begin with 0, never decrease and end with `stored`;
    /// of a part of it, only what the part shows is checked.
    pub(crate) fn check_values(
        &self,
        (role, dtype): (Role, DType),
        (bytes, first): (&[u8], u64),
        stored: u64,
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        /// Values that are checked between two checkpoints.
        const SLICE: usize = 1024 * 1024;
        if matches!(role, Role::Data | Role::Values) {
            return Ok(());
        }
        let width = dtype.size();
        for start in (0..bytes.len() / width).step_by(SLICE) {
            checkpoint()?;
            // The value before a slice is seen again, since those of indptr are compared with it.
            let from = start.saturating_sub(1);
            let slice = &bytes[from * width..bytes.len().min((start + SLICE) * width)];
            self.check_slice((role, dtype), (slice, first + from as u64), stored)?;
        }
        Ok(())
    }

    fn check_slice(
        &self,
        (role, dtype): (Role, DType),
        (bytes, first): (&[u8], u64),
        stored: u64,
    ) -> Result<()> {
        match role {
            Role::Data | Role::Values => Ok(()),
            Role::Indptr => {
                let last_at = self.compressed_len();
                let mut previous = 0;
                each_index(dtype, bytes, |at, value| {
                    let at = first + at;
                    let Some(value) = value.filter(|&value| {
                        value >= previous
                            && value <= stored
                            && (at > 0 || value == 0)
                            && (at < last_at || value == stored)
                    }) else {
                        fail!(
                            Sparse,
                            "indptr[{at}] is {}; it must start at 0, never decrease (the one before is {previous}) and \
                             end at the {stored} stored entries",
                            show(value)
                        );
                    };
                    previous = value;
                    Ok(())
                })
            }
            Role::Indices if self.layout == Layout::SparseCoo => each_index(dtype, bytes, |at, value| {
                let at = first + at;
                let dim = (at / stored) as usize;
                check_bound(at, value, self.shape[dim])
            }),
            Role::Indices => {
                let bound = self.grid(1 - self.layout.compressed_dim());
                each_index(dtype, bytes, |at, value| check_bound(first + at, value, bound))
            }
        }
    }
}

/// Checks that within each row the columns ascend, given unsigned values of one type that
/// [`Geometry::check_values`] found good.
pub(crate) fn check_rows_ascend(dtype: DType, columns: &[u8], rows: &[u8]) -> Result<()> {
    let width = dtype.size();
    for row in 1..rows.len() / width {
        for at in unsigned(rows, width, row - 1) + 1..unsigned(rows, width, row) {
            let before = unsigned(columns, width, at as usize - 1);
            let column = unsigned(columns, width, at as usize);
            ensure!(
                before < column,
                Sparse,
                "column {column} at position {at} does not come after {before}, the one before it in its row"
            );
        }
    }
    Ok(())
}

/// Checks that no two entries of a tensor in coordinates stand at the same place, given unsigned values of one type that
/// [`Geometry::check_values`] found good. It takes memory only where the entries do not ascend: eight bytes for each.
pub(crate) fn check_coordinates_differ(dtype: DType, indices: &[u8], shape: &[u64]) -> Result<()> {
    let width = dtype.size();
    let count = indices.len() / (width * shape.len());
    // All values lie inside the shape, whose product is below 2^63.
    let place = |entry: usize| {
        shape
            .iter()
            .enumerate()
            .fold(0, |place, (dim, size)| place * size + unsigned(indices, width, dim * count + entry))
    };
    if (1..count).all(|entry| place(entry - 1) < place(entry)) {
        return Ok(());
    }
    let mut places = Vec::new();
    let Ok(()) = places.try_reserve_exact(count) else {
        fail!(Memory, "{} bytes to compare coordinates cannot be had", count * size_of::<u64>());
    };
    places.extend((0..count).map(place));
    places.sort_unstable();
    if let Some(twice) = places.windows(2).find(|pair| pair[0] == pair[1]) {
        let mut rest = twice[0];
        let mut coordinates: Vec<u64> =
            shape.iter().rev().map(|size| (rest % size, rest /= size).0).collect();
        coordinates.reverse();
        fail!(Sparse, "two entries have the coordinates {coordinates:?}");
    }
    Ok(())
}

/// The little-endian unsigned value of this number, of `width` bytes.
fn unsigned(bytes: &[u8], width: usize, at: usize) -> u64 {
    let mut word = [0; 8];
    word[..width].copy_from_slice(&bytes[at * width..][..width]);
    u64::from_le_bytes(word)
}

fn check_bound(at: u64, value: Option<u64>, bound: u64) -> Result<()> {
    ensure!(
        value.is_some_and(|value| value < bound),
        Sparse,
        "index value {} at position {at} lies outside 0..{bound}",
        show(value)
    );
    Ok(())
}

fn show(value: Option<u64>) -> String {
    value.map_or_else(|| "negative".to_owned(), |value| value.to_string())
}

fn expect_len(role: &str, part: Part, count: Option<u64>) -> Result<()> {
    let expected = count.and_then(|count| count.checked_mul(part.dtype.size() as u64));
    ensure!(
        expected == Some(part.len),
        Size,
        "component {role:?} has {} bytes, shape and element type {} ask for {}",
        part.len,
        part.dtype.name(),
        expected.map_or_else(|| "more than 2^64".to_owned(), |len| len.to_string())
    );
    Ok(())
}

/// Calls `check` with position and value of each integer; a negative value is `None`.
fn each_index(
    dtype: DType,
    bytes: &[u8],
    mut check: impl FnMut(u64, Option<u64>) -> Result<()>,
) -> Result<()> {
    macro_rules! walk {
        ($type:ty) => {
            for (at, chunk) in bytes.as_chunks().0.iter().enumerate() {
                check(at as u64, u64::try_from(<$type>::from_le_bytes(*chunk)).ok())?;
            }
        };
    }
    match dtype {
        DType::Int64 => walk!(i64),
        DType::Int32 => walk!(i32),
        DType::Int16 => walk!(i16),
        DType::Int8 => walk!(i8),
        DType::UInt64 => walk!(u64),
        DType::UInt32 => walk!(u32),
        DType::UInt16 => walk!(u16),
        DType::UInt8 => walk!(u8),
        other => fail!(Layout, "index values are integers, not {}", other.name()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Element;
    use crate::error::ErrorKind;

    fn bytes<T: Element>(values: &[T]) -> Vec<u8> {
        let mut out = Vec::new();
        T::to_le_bytes(values, &mut out);
        out
    }

    fn csr(shape: &[u64]) -> Geometry<'_> {
        Geometry { layout: Layout::SparseCsr, dtype: DType::Float32, shape, blocksize: None }
    }

    #[test]
    fn codes_and_names_lead_back() {
        for layout in Layout::all() {
            assert_eq!(Layout::from_code(layout as i32), Some(layout));
            assert_eq!(Layout::from_name(layout.name()), Some(layout));
        }
        assert_eq!(Layout::all().map(|layout| layout.roles().len()).max(), Some(MAX_ROLES));
        assert_eq!((Layout::from_code(0), Layout::from_code(7), Role::from_code(-1)), (None, None, None));
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            assert_eq!(Role::from_code(role as i32), Some(role));
        }
    }

    #[test]
    fn element_counts() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[3, 0, 5]), Some(0));
        assert_eq!(element_count(&[1 << 62]), Some(1 << 62));
        assert_eq!(element_count(&[1 << 62, 2]), None);
        assert_eq!(element_count(&[1 << 62, 2, 0]), None);
        assert_eq!(element_count(&[u64::MAX]), None);
    }

    #[test]
    fn indptr_rules() {
        let check = |values: &[i32], first| {
            csr(&[3, 4])
                .check_values((Role::Indptr, DType::Int32), (&bytes(values), first), 5, &|| Ok(()))
                .map_err(|err| err.kind())
        };
        assert_eq!(check(&[0, 2, 2, 5], 0), Ok(()));
        assert_eq!(check(&[2, 2], 1), Ok(()));
        for wrong in [[1, 2, 2, 5], [0, 3, 2, 5], [0, 2, 2, 4], [0, 2, 6, 5], [0, -1, 2, 5]] {
            assert_eq!(check(&wrong, 0), Err(ErrorKind::Sparse), "{wrong:?}");
        }
        assert_eq!(check(&[2, 4], 2), Err(ErrorKind::Sparse));
    }

    #[test]
    fn index_values_stay_inside_the_shape() {
        let check = |geometry: Geometry<'_>, values: &[i64], stored| {
            geometry
                .check_values((Role::Indices, DType::Int64), (&bytes(values), 0), stored, &|| Ok(()))
                .map_err(|err| err.kind())
        };
        assert_eq!(check(csr(&[3, 4]), &[3, 0], 2), Ok(()));
        assert_eq!(check(csr(&[3, 4]), &[4], 1), Err(ErrorKind::Sparse));
        assert_eq!(check(csr(&[3, 4]), &[-1], 1), Err(ErrorKind::Sparse));
        let coo = Geometry { layout: Layout::SparseCoo, ..csr(&[3, 4]) };
        assert_eq!(check(coo, &[2, 0, 3, 3], 2), Ok(()));
        assert_eq!(check(coo, &[3, 0, 3, 3], 2), Err(ErrorKind::Sparse));
        let bsc = Geometry { layout: Layout::SparseBsc, blocksize: Some([3, 2]), ..csr(&[6, 4]) };
        assert_eq!(check(bsc, &[1], 1), Ok(()));
        assert_eq!(check(bsc, &[2], 1), Err(ErrorKind::Sparse));
    }

    #[test]
    fn coordinates_stand_once() {
        let check = |values: &[u32], shape: &[u64]| {
            check_coordinates_differ(DType::UInt32, &bytes(values), shape).map_err(|err| err.to_string())
        };
        assert_eq!(check(&[], &[3, 4]), Ok(()));
        assert_eq!(check(&[0, 2, 3, 1], &[3, 4]), Ok(()));
        assert_eq!(check(&[2, 0, 1, 3], &[3, 4]), Ok(()));
        assert_eq!(check(&[2, 0, 1, 1], &[3, 4]), Ok(()));
        assert_eq!(check(&[1, 2, 1, 0, 3, 1], &[3, 4]), Ok(()));
        let twice = check(&[1, 2, 1, 3, 0, 3], &[3, 4]).unwrap_err();
        assert!(twice.contains("[1, 3]"), "{twice}");
        assert!(check(&[5, 5], &[1 << 32]).is_err());
    }

    #[test]
    fn sizes_follow_the_shape() {
        let part = |dtype, len| Part { dtype, len };
        let ok = [part(DType::Float32, 8), part(DType::Int32, 8), part(DType::Int64, 32)];
        assert!(csr(&[3, 4]).check_parts(&ok).is_ok());
        let kinds = |parts: &[Part]| csr(&[3, 4]).check_parts(parts).map_err(|err| err.kind());
        assert_eq!(kinds(&[part(DType::Float32, 7), ok[1], ok[2]]), Err(ErrorKind::Size));
        assert_eq!(kinds(&[ok[0], part(DType::Int32, 4), ok[2]]), Err(ErrorKind::Size));
        assert_eq!(kinds(&[ok[0], ok[1], part(DType::Int64, 24)]), Err(ErrorKind::Size));
        assert_eq!(kinds(&[ok[0], part(DType::Float32, 8), ok[2]]), Err(ErrorKind::Layout));
        assert_eq!(kinds(&[part(DType::Float64, 16), ok[1], ok[2]]), Err(ErrorKind::Layout));
        let huge = [part(DType::Float32, 0), part(DType::Int32, 0), part(DType::Int64, 8)];
        assert_eq!(csr(&[u64::MAX >> 1, 1]).check_parts(&huge).unwrap_err().kind(), ErrorKind::Size);
    }
}
