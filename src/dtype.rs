//! The one table of element types.
//!
//! A new element type is one row of [`TABLE`] here, one row in the Python table, one row in
//! `docs/FORMAT.md`; tests hold the three together.

use std::ffi::CStr;

use half::{bf16, f16};

/// An element type. Its number is the code that C knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names say it all; FORMAT.md section 3 describes each")]
pub enum DType {
    Float64 = 1,
    Float32,
    Float16,
    BFloat16,
    Int64,
    Int32,
    Int16,
    Int8,
    UInt64,
    UInt32,
    UInt16,
    UInt8,
    Bool,
    Complex64,
    Complex128,
    Float8E4M3Fn,
    Float8E5M2,
    Float8E4M3FnUz,
    Float8E5M2FnUz,
    Float8E8M0Fnu,
    Float4E2M1FnX2,
}

/// What the bits of an element mean; the choice of a filter rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// IEEE-like sign, exponent, mantissa.
    Float,
    /// Two floats, real and imaginary.
    Complex,
    /// Two's complement integer.
    Signed,
    /// Unsigned integer.
    Unsigned,
    /// One byte, 0 or 1.
    Bool,
}

/// One row of the table of element types.
struct Row {
    dtype: DType,
    name: Name,
    size: usize,
    class: Class,
}

const fn row(dtype: DType, name: &'static CStr, size: usize, class: Class) -> Row {
    Row { dtype, name: Name::new(name), size, class }
}

/// A name that a table of this crate spells, for Rust and for C.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    pub(crate) text: &'static str,
    pub(crate) c: &'static CStr,
}

impl Name {
    /// # Panics
    ///
    /// If the name is not UTF-8: when the table is compiled.
    pub(crate) const fn new(c: &'static CStr) -> Self {
        match c.to_str() {
            Ok(text) => Self { text, c },
            Err(_) => panic!("a name is UTF-8"),
        }
    }
}

/// What a table of this crate has a name for.
pub(crate) trait Named {
    /// The name in the index.
    fn name(self) -> &'static str;
}

impl Named for DType {
    fn name(self) -> &'static str {
        self.name()
    }
}

const TABLE: &[Row] = &[
    row(DType::Float64, c"float64", 8, Class::Float),
    row(DType::Float32, c"float32", 4, Class::Float),
    row(DType::Float16, c"float16", 2, Class::Float),
    row(DType::BFloat16, c"bfloat16", 2, Class::Float),
    row(DType::Int64, c"int64", 8, Class::Signed),
    row(DType::Int32, c"int32", 4, Class::Signed),
    row(DType::Int16, c"int16", 2, Class::Signed),
    row(DType::Int8, c"int8", 1, Class::Signed),
    row(DType::UInt64, c"uint64", 8, Class::Unsigned),
    row(DType::UInt32, c"uint32", 4, Class::Unsigned),
    row(DType::UInt16, c"uint16", 2, Class::Unsigned),
    row(DType::UInt8, c"uint8", 1, Class::Unsigned),
    row(DType::Bool, c"bool", 1, Class::Bool),
    row(DType::Complex64, c"complex64", 8, Class::Complex),
    row(DType::Complex128, c"complex128", 16, Class::Complex),
    row(DType::Float8E4M3Fn, c"float8_e4m3fn", 1, Class::Float),
    row(DType::Float8E5M2, c"float8_e5m2", 1, Class::Float),
    row(DType::Float8E4M3FnUz, c"float8_e4m3fnuz", 1, Class::Float),
    row(DType::Float8E5M2FnUz, c"float8_e5m2fnuz", 1, Class::Float),
    row(DType::Float8E8M0Fnu, c"float8_e8m0fnu", 1, Class::Float),
    row(DType::Float4E2M1FnX2, c"float4_e2m1fn_x2", 1, Class::Float),
];

impl DType {
    /// Every element type, in the order of the codes.
    pub fn all() -> impl ExactSizeIterator<Item = DType> {
        TABLE.iter().map(|row| row.dtype)
    }

    /// The element type of this code.
    pub fn from_code(code: i32) -> Option<Self> {
        let at = usize::try_from(code).ok()?.checked_sub(1)?;
        TABLE.get(at).map(|row| row.dtype)
    }

    /// The element type of this name, as the index spells it.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name.text == name).map(|row| row.dtype)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize - 1]
    }

    /// The number that C knows this type by.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The name in the index.
    pub fn name(self) -> &'static str {
        self.row().name.text
    }

    /// The name in the index, for C.
    pub(crate) fn c_name(self) -> &'static CStr {
        self.row().name.c
    }

    /// Bytes of one element. `float4_e2m1fn_x2` counts pairs, as its shape does.
    pub fn size(self) -> usize {
        self.row().size
    }

    /// What the bits of an element mean.
    pub fn class(self) -> Class {
        self.row().class
    }

    /// Bytes that a filter treats as one unit: the element, or for a complex type its real part.
    pub fn filter_width(self) -> usize {
        match self.class() {
            Class::Complex => self.size() / 2,
            _ => self.size(),
        }
    }

    /// Whether index components of sparse layouts may have this type.
    pub fn is_integer(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }
}

/// A Rust type whose slices are the elements of a tensor.
///
/// Implemented for the numeric types of the language and `half`'s two; not for `bool`, since not every
/// byte is one.
pub trait Element: Copy + sealed::Sealed {
    /// The element type.
    const DTYPE: DType;

    /// Appends the little-endian bytes of `values` to `out`.
    fn to_le_bytes(values: &[Self], out: &mut Vec<u8>);

    /// The values of little-endian `bytes`, whose length must be a multiple of the element's size.
    fn from_le_bytes(bytes: &[u8]) -> Vec<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! element {
    ($($type:ty => $dtype:ident),+ $(,)?) => { $(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;

            fn to_le_bytes(values: &[Self], out: &mut Vec<u8>) {
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }

            fn from_le_bytes(bytes: &[u8]) -> Vec<Self> {
                bytes.as_chunks().0.iter().map(|chunk| <$type>::from_le_bytes(*chunk)).collect()
            }
        }
    )+ };
}

element! {
    f64 => Float64, f32 => Float32, f16 => Float16, bf16 => BFloat16,
    i64 => Int64, i32 => Int32, i16 => Int16, i8 => Int8,
    u64 => UInt64, u32 => UInt32, u16 => UInt16, u8 => UInt8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_lead_back_to_their_row() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.dtype.code() as usize, at + 1, "{}", row.dtype.name());
            assert_eq!(DType::from_code(row.dtype.code()), Some(row.dtype));
            assert_eq!(DType::from_name(row.dtype.name()), Some(row.dtype));
        }
        assert_eq!(DType::from_code(0), None);
        assert_eq!(DType::from_code(-1), None);
        assert_eq!(DType::from_code(TABLE.len() as i32 + 1), None);
    }

    #[test]
    fn the_format_names_each_type() {
        let (_, section) = include_str!("../docs/FORMAT.md").split_once("\n## 3. ").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let named: BTreeSet<&str> = section.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, DType::all().map(DType::name).collect());
    }

    #[test]
    fn elements_have_the_size_of_their_type() {
        fn check<T: Element>() {
            assert_eq!(size_of::<T>(), T::DTYPE.size(), "{}", T::DTYPE.name());
        }
        check::<f64>();
        check::<f32>();
        check::<f16>();
        check::<bf16>();
        check::<i64>();
        check::<u16>();
        check::<i8>();
    }
}
