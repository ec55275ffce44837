//! Codes and the names that stand for them.

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::OnceLock;

use super::guard::{guard, guard_value};
use super::pointer::{Out, c_text};
use super::{ZT_OK, ZtStatus};
use crate::codec::Filter;
use crate::dtype::DType;
use crate::error::{ErrorKind, fail};
use crate::layout::{Layout, Role};

/// An element type; 0 is one that this library does not know.
pub type ZtDtype = i32;
/// A layout; 0 is one that this library does not know.
pub type ZtLayout = i32;
/// What a component is to its layout; 0 is one that this library does not know.
pub type ZtRole = i32;
/// How a component is stored; 0 is one that this library does not know.
pub type ZtEncoding = i32;
/// What was done to a chunk before it was compressed; 0 where nothing is compressed.
pub type ZtFilter = i32;

/// IEEE binary64.
pub const ZT_FLOAT64: ZtDtype = 1;
/// IEEE binary32.
pub const ZT_FLOAT32: ZtDtype = 2;
/// IEEE binary16.
pub const ZT_FLOAT16: ZtDtype = 3;
/// The upper half of a binary32.
pub const ZT_BFLOAT16: ZtDtype = 4;
/// 64 bits, two's complement.
pub const ZT_INT64: ZtDtype = 5;
/// 32 bits, two's complement.
pub const ZT_INT32: ZtDtype = 6;
/// 16 bits, two's complement.
pub const ZT_INT16: ZtDtype = 7;
/// 8 bits, two's complement.
pub const ZT_INT8: ZtDtype = 8;
/// 64 bits, unsigned.
pub const ZT_UINT64: ZtDtype = 9;
/// 32 bits, unsigned.
pub const ZT_UINT32: ZtDtype = 10;
/// 16 bits, unsigned.
pub const ZT_UINT16: ZtDtype = 11;
/// 8 bits, unsigned.
pub const ZT_UINT8: ZtDtype = 12;
/// One byte, 0 or 1.
pub const ZT_BOOL: ZtDtype = 13;
/// Two binary32: real, imaginary.
pub const ZT_COMPLEX64: ZtDtype = 14;
/// Two binary64: real, imaginary.
pub const ZT_COMPLEX128: ZtDtype = 15;
/// 8-bit float: 4 bits of exponent, 3 of mantissa, no infinity.
pub const ZT_FLOAT8_E4M3FN: ZtDtype = 16;
/// 8-bit float: 5 bits of exponent, 2 of mantissa.
pub const ZT_FLOAT8_E5M2: ZtDtype = 17;
/// 8-bit float: 4 bits of exponent, 3 of mantissa, no infinity, no negative zero.
pub const ZT_FLOAT8_E4M3FNUZ: ZtDtype = 18;
/// 8-bit float: 5 bits of exponent, 2 of mantissa, no infinity, no negative zero.
pub const ZT_FLOAT8_E5M2FNUZ: ZtDtype = 19;
/// 8-bit power of two.
pub const ZT_FLOAT8_E8M0FNU: ZtDtype = 20;
/// Two 4-bit floats in a byte, the first in the low half; shapes count bytes.
pub const ZT_FLOAT4_E2M1FN_X2: ZtDtype = 21;

/// All elements in C order. Component: data, of the tensor's shape.
pub const ZT_DENSE: ZtLayout = 1;
/// Compressed sparse rows, of a matrix. Components: values, one for each entry that is stored, row by row; indices, the
/// column of each; indptr, rows + 1 numbers: where each row begins among the values, and where the last one ends. Those
/// of indices and indptr, here as in the layouts below, are integers of any type, each component of its own.
pub const ZT_SPARSE_CSR: ZtLayout = 2;
/// Compressed sparse columns, of a matrix. Components: values, column by column; indices, the row of each; indptr,
/// columns + 1 numbers.
pub const ZT_SPARSE_CSC: ZtLayout = 3;
/// Coordinates, of one dimension or more. Components: values; indices, of shape [ndim, number of values]: the first
/// coordinate of each value, then the second of each, and so on. The order of the values is free.
pub const ZT_SPARSE_COO: ZtLayout = 4;
/// Block compressed sparse rows, of a matrix cut into blocks of one size, which divides its shape. Components: values, the
/// blocks that are stored, each in C order; indices, the block column of each; indptr, rows of blocks + 1 numbers.
pub const ZT_SPARSE_BSR: ZtLayout = 5;
/// Block compressed sparse columns. Components: values, the blocks, each in C order; indices, the block row of each;
/// indptr, columns of blocks + 1 numbers.
pub const ZT_SPARSE_BSC: ZtLayout = 6;

/// The elements of a dense tensor.
pub const ZT_DATA: ZtRole = 1;
/// The stored elements of a sparse tensor.
pub const ZT_VALUES: ZtRole = 2;
/// Columns, rows or coordinates of the stored elements.
pub const ZT_INDICES: ZtRole = 3;
/// Where each compressed row or column begins among the stored elements.
pub const ZT_INDPTR: ZtRole = 4;

/// Bytes as they are.
pub const ZT_RAW: ZtEncoding = 1;
/// Chunks of zstd frames.
pub const ZT_ZSTD: ZtEncoding = 2;

/// Compressed as it is.
pub const ZT_FILTER_NONE: ZtFilter = 1;
/// Bytes of equal weight stand together.
pub const ZT_FILTER_SHUFFLE: ZtFilter = 2;
/// Shuffled, after the sign was rotated to the low end.
pub const ZT_FILTER_FLOAT: ZtFilter = 3;
/// Shuffled differences of neighbours.
pub const ZT_FILTER_DELTA: ZtFilter = 4;

fn known(name: Option<&CStr>) -> *const c_char {
    name.map_or(ptr::null(), CStr::as_ptr)
}

/// Names a status, such as "CHECKSUM" for ZT_ERR_CHECKSUM, "OK" for ZT_OK. NULL for a number that is no status.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_status_name(status: ZtStatus) -> *const c_char {
    static NAMES: OnceLock<Vec<(ZtStatus, CString)>> = OnceLock::new();
    guard_value(ptr::null(), || {
        let names = NAMES.get_or_init(|| {
            let name =
                |kind: &ErrorKind| CString::new(upper_snake_case(&format!("{kind:?}"))).unwrap_or_default();
            let failures = ErrorKind::ALL.iter().map(|kind| (kind.code(), name(kind)));
            std::iter::once((ZT_OK, c"OK".to_owned())).chain(failures).collect()
        });
        known(names.iter().find(|(code, _)| *code == status).map(|(_, name)| name.as_c_str()))
    })
}

/// Spells the name of a variant as constants are spelled.
pub(super) fn upper_snake_case(variant: &str) -> String {
    let mut name = String::with_capacity(variant.len() + 3);
    for letter in variant.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Names an element type as files spell it, such as "bfloat16". NULL for a code that is none: a loop from 1
/// up to NULL sees every type.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_dtype_name(dtype: ZtDtype) -> *const c_char {
    known(DType::from_code(dtype).map(DType::c_name))
}

/// Gives the bytes of one element; 0 for a code that is no element type.
///
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_dtype_size(dtype: ZtDtype) -> usize {
    DType::from_code(dtype).map_or(0, DType::size)
}

/// Finds an element type by the name that files spell.
///
/// `name` is UTF-8 and NUL-terminated.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_UTF8, ZT_ERR_UNKNOWN_DTYPE. On error `*out_dtype` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_dtype_from_name(name: *const c_char, out_dtype: *mut ZtDtype) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a C string.
        let name = unsafe { c_text(name, "name") }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_dtype, "out_dtype") }?;
        let Some(dtype) = DType::from_name(name) else {
            fail!(UnknownDtype, "no element type is called {name:?}")
        };
        out.set(dtype.code());
        Ok(())
    })
}

/// Names a layout as files spell it, such as "sparse_csr". NULL for a code that is none.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_layout_name(layout: ZtLayout) -> *const c_char {
    known(Layout::from_code(layout).map(Layout::c_name))
}

/// Names a role as files spell it, such as "indptr". NULL for a code that is none.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_role_name(role: ZtRole) -> *const c_char {
    known(Role::from_code(role).map(Role::c_name))
}

/// Names an encoding as files spell it: "raw" or "zstd". NULL for a code that is none.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_encoding_name(encoding: ZtEncoding) -> *const c_char {
    known(match encoding {
        ZT_RAW => Some(c"raw"),
        ZT_ZSTD => Some(c"zstd"),
        _ => None,
    })
}

/// Names a filter as files spell it, such as "shuffle". NULL for a code that is none.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_filter_name(filter: ZtFilter) -> *const c_char {
    known(Filter::all().find(|known| *known as i32 == filter).map(Filter::c_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants of this file that begin with `ZT_` and have the given type.
    fn constants(of_type: &str) -> Vec<(String, i32)> {
        include_str!("name.rs")
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("pub const ZT_")?.split_once(": ")?;
                let (found, value) = rest.split_once(" = ")?;
                (found == of_type)
                    .then(|| (name.to_lowercase(), value.trim_end_matches(';').parse().unwrap()))
            })
            .collect()
    }

    #[test]
    fn constants_agree_with_the_tables() {
        let dtypes: Vec<_> = DType::all().map(|dtype| (dtype.name().to_owned(), dtype.code())).collect();
        assert_eq!(constants("ZtDtype"), dtypes);
        let layouts: Vec<_> = Layout::all().map(|layout| (layout.name().to_owned(), layout as i32)).collect();
        assert_eq!(constants("ZtLayout"), layouts);
        let filters: Vec<_> =
            Filter::all().map(|filter| (format!("filter_{}", filter.name()), filter as i32)).collect();
        assert_eq!(constants("ZtFilter"), filters);
        for (name, code) in constants("ZtRole") {
            assert_eq!(Role::from_name(&name).map(|role| role as i32), Some(code));
        }
    }
}
