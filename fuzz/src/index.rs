//! Bytes as the index of a file.

use ztensor::metadata::{from_json, to_json};
use ztensor::{ErrorKind, Index, Metadata, Reader};

use super::container::{open, wrap};

/// Room for blobs in front of the index.
static BLOBS: [u8; 8192] = [0; 8192];

/// Parses `data` as an index. One that is good is written again; that must be good too, and say the same.
pub fn index(data: &[u8]) {
    let Ok(reader) = open(wrap(&BLOBS, data)) else { return };
    look(&reader);
    let bytes = reader.index().to_bytes().unwrap();
    let again = open(wrap(&BLOBS, &bytes)).unwrap();
    assert_eq!(again.index().to_bytes().unwrap(), bytes);
    compare(reader.index(), again.index());
}

/// Asks for everything that an index says.
fn look(reader: &Reader) {
    let index = reader.index();
    check_json(&index.metadata);
    for info in index.iter() {
        assert_eq!(reader.find(info.name()).unwrap(), info.number());
        assert_eq!(&index.names()[info.name_start()..][..info.name().len()], info.name());
        if let Some(attributes) = info.attributes() {
            check_json(attributes);
        }
        assert!(info.component(info.components().len()).is_none());
    }
    assert!(index.get(index.len()).is_none());
}

/// Metadata goes through JSON: what comes out once comes out for ever.
fn check_json(metadata: &Metadata) {
    match from_json(&to_json(metadata)) {
        Ok(first) => {
            let second = from_json(&to_json(&first)).unwrap();
            assert_eq!(to_json(&second), to_json(&first));
        }
        // A map of one key that begins with "$" is reserved.
        Err(err) => assert_eq!(err.kind(), ErrorKind::Argument),
    }
}

fn compare(one: &Index, other: &Index) {
    assert_eq!(one.len(), other.len());
    assert_eq!(to_json(&one.metadata), to_json(&other.metadata));
    for (a, b) in one.iter().zip(other.iter()) {
        assert_eq!(
            (a.name(), a.dtype(), a.shape(), a.layout()),
            (b.name(), b.dtype(), b.shape(), b.layout())
        );
        assert_eq!((a.blocksize(), a.len_bytes()), (b.blocksize(), b.len_bytes()));
        assert_eq!(a.attributes().map(to_json), b.attributes().map(to_json));
        assert_eq!(a.components().len(), b.components().len());
        for (a, b) in a.components().zip(b.components()) {
            assert_eq!((a.role(), a.dtype(), a.encoding()), (b.role(), b.dtype(), b.encoding()));
            assert_eq!((a.offset(), a.stored_len(), a.crc32()), (b.offset(), b.stored_len(), b.crc32()));
        }
    }
}
