//! Files of the generations, made in the test: CBOR values and what goes around them.

/// A CBOR value, spelled in the deterministic form unless it says otherwise.
#[derive(Debug, Clone)]
pub(super) enum Cbor {
    Int(u64),
    Text(String),
    Array(Vec<Cbor>),
    /// Sorted by the keys' encoded bytes when it is spelled.
    Map(Vec<(Cbor, Cbor)>),
    /// Bytes as they are.
    Raw(Vec<u8>),
}

impl From<u64> for Cbor {
    fn from(value: u64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Cbor {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Cbor>, const N: usize> From<[T; N]> for Cbor {
    fn from(items: [T; N]) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

/// A map of text keys.
pub(super) fn map<const N: usize>(entries: [(&str, Cbor); N]) -> Cbor {
    Cbor::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    let (info, len) = match argument {
        0..24 => (argument as u8, 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend_from_slice(&bytes[8 - len..]);
}

impl Cbor {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Int(value) => head(0, *value, &mut out),
            Self::Text(text) => {
                head(3, text.len() as u64, &mut out);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Array(items) => {
                head(4, items.len() as u64, &mut out);
                items.iter().for_each(|item| out.extend(item.bytes()));
            }
            Self::Map(entries) => {
                head(5, entries.len() as u64, &mut out);
                let mut spelled: Vec<_> =
                    entries.iter().map(|(key, value)| (key.bytes(), value.bytes())).collect();
                spelled.sort();
                spelled.into_iter().for_each(|(key, value)| out.extend([key, value].concat()));
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
        out
    }

    /// Sets the value of a key, on a path through maps.
    pub(super) fn set(mut self, path: &[&str], value: impl Into<Cbor>) -> Self {
        *self.slot(path) = value.into();
        self
    }

    /// Leaves out a key, on a path through maps.
    pub(super) fn without(mut self, path: &[&str]) -> Self {
        let (last, before) = path.split_last().unwrap();
        match self.slot(before) {
            Self::Map(entries) => entries.retain(|(key, _)| !matches!(key, Self::Text(text) if text == last)),
            other => panic!("{other:?} is no map"),
        }
        self
    }

    fn slot(&mut self, path: &[&str]) -> &mut Cbor {
        let Some((first, rest)) = path.split_first() else { return self };
        let Self::Map(entries) = self else { panic!("{self:?} is no map") };
        let found = entries.iter().position(|(key, _)| matches!(key, Self::Text(text) if text == first));
        let at = found.unwrap_or_else(|| {
            entries.push(((*first).into(), map([])));
            entries.len() - 1
        });
        entries[at].1.slot(rest)
    }
}

pub(super) const ZT2: [u8; 8] = [0x89, b'Z', b'T', b'2', 0x0d, 0x0a, 0x1a, 0x0a];

/// The footer of generation 2.
pub(super) fn footer(offset: u64, len: u64, hash: u64) -> Vec<u8> {
    let words = [offset, len, hash, 2].map(u64::to_le_bytes).concat();
    [&words[..], &ZT2].concat()
}

/// Signature and blobs, each at a multiple of `alignment`.
pub(super) fn with_blobs(signature: &[u8; 8], alignment: usize, blobs: &[&[u8]]) -> Vec<u8> {
    let mut file = signature.to_vec();
    for blob in blobs {
        file.resize(file.len().next_multiple_of(alignment), 0);
        file.extend_from_slice(blob);
    }
    file
}

/// A file of generation 2.
pub(super) fn gen2(blobs: &[&[u8]], index: &[u8]) -> Vec<u8> {
    let mut file = with_blobs(&ZT2, 4096, blobs);
    file.resize(file.len().next_multiple_of(4096).max(8192), 0);
    let offset = file.len() as u64;
    file.extend_from_slice(index);
    file.extend(footer(offset, index.len() as u64, xxhash_rust::xxh3::xxh3_64(index)));
    file
}

/// A file of generation 1.1 or 1.2.
pub(super) fn gen1(blobs: &[&[u8]], index: &[u8]) -> Vec<u8> {
    let mut file = with_blobs(b"ZTEN1000", 64, blobs);
    file.extend_from_slice(index);
    file.extend((index.len() as u64).to_le_bytes());
    file.extend(b"ZTEN1000");
    file
}

/// A file of generation 0.1.
pub(super) fn gen01(blobs: &[&[u8]], index: &[u8]) -> Vec<u8> {
    let mut file = with_blobs(b"ZTEN0001", 64, blobs);
    file.extend_from_slice(index);
    file.extend((index.len() as u64).to_le_bytes());
    file
}

/// A part of generation 2.
pub(super) fn part(dtype: &str, offset: u64, len: u64) -> Cbor {
    map([("dtype", dtype.into()), ("blob", [offset, len].into())])
}

/// An index of generation 2 with one tensor, `w`.
pub(super) fn index2(layout: &str, shape: &[u64], parts: Cbor) -> Cbor {
    let shape = Cbor::Array(shape.iter().map(|dim| (*dim).into()).collect());
    map([("objects", map([("w", map([("layout", layout.into()), ("shape", shape), ("parts", parts)]))]))])
}

/// An index of generation 2 with one dense tensor, `w`, of six float32, whose blob is the first.
pub(super) fn plain2() -> Cbor {
    index2("dense", &[2, 3], map([("data", part("f32", 4096, 24))]))
}

/// The path to the one part of [`plain2`].
pub(super) const PART: [&str; 4] = ["objects", "w", "parts", "data"];
