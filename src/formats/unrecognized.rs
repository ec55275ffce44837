//! What a file that is not a `.zt` file probably is, and what to do about it.

use super::zt1::container::SIGNATURE;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;

/// Bytes of a file that are enough to recognize it.
pub(crate) const HEAD_LEN: usize = 512;

/// Returns the error of a file that begins with `head`, its first [`HEAD_LEN`] bytes or fewer, and with the signature of no
/// format that is read.
pub(crate) fn error(head: &[u8]) -> Error {
    let message = match describe(head) {
        _ if head.is_empty() => "the file is empty".to_owned(),
        Some(what) => format!("not a .zt file: {what}"),
        None => format!(
            "the file does not begin with the signature of a .zt file: found {:02x?}, expected {SIGNATURE:02x?}",
            &head[..head.len().min(8)]
        ),
    };
    Error::new(ErrorKind::Signature, message)
}

/// Checks that a file is not one of those that are recognized here.
///
/// # Errors
///
/// `Signature` if it is; `Io`.
pub(crate) fn check(source: &Source) -> Result<()> {
    let mut head = [0; HEAD_LEN];
    let head = &mut head[..source.len().min(HEAD_LEN as u64) as usize];
    source.read(0, head)?;
    if describe(head).is_some() { Err(error(head)) } else { Ok(()) }
}

/// Says what a file is that begins with `head`, if that can be told.
fn describe(head: &[u8]) -> Option<String> {
    damaged_signature(head)
        .map(str::to_owned)
        .or_else(|| pointer(head))
        .or_else(|| binary(head).map(str::to_owned))
        .or_else(|| text(head))
        .or_else(|| zeros(head))
}

/// What the signature has become of a file that was transferred as text. As in PNG files, its bytes are chosen to show that.
fn damaged_signature(head: &[u8]) -> Option<&'static str> {
    /// The signatures of this format and of `zt/2` differ in one byte.
    const MARKS: [&[u8]; 2] = [b"ZTM", b"ZT2"];
    const NEWLINES: &[u8] = b"\r\n\x1a\n";
    if head.len() < SIGNATURE.len() && SIGNATURE.starts_with(head) {
        return (!head.is_empty()).then_some("the file ends within its signature: it was truncated");
    }
    let at = (0..=3).find(|&at| MARKS.iter().any(|mark| head[at.min(head.len())..].starts_with(mark)))?;
    let (first, rest) = (&head[..at], &head[at + 3..]);
    match (first, rest.starts_with(NEWLINES)) {
        ([0x89], true) => None,
        ([0x89], false) => matches!(rest, [b'\r' | b'\n', b'\r' | b'\n' | 0x1a, ..]).then_some(
            "its line ends were converted by a transfer in text mode, which damages all of the file: transfer it again in \
             binary mode",
        ),
        ([0x09], _) => Some(
            "the high bit of its bytes was stripped by a transfer of 7 bits: transfer it again in binary mode",
        ),
        ([0xc2, 0x89] | [0xef, 0xbb, 0xbf] | [0xef, 0xbf, 0xbd] | b"?" | b"", _) => Some(
            "its bytes were converted to another text encoding, which damages all of the file: transfer it again in binary mode",
        ),
        _ => None,
    }
}

/// Files that stand for a larger one, which has to be fetched.
fn pointer(head: &[u8]) -> Option<String> {
    const GIT_LFS: [&[u8]; 3] = [
        b"version https://git-lfs.github.com/spec/",
        b"version https://hawser.github.com/spec/",
        b"version http://git-media.io/v/",
    ];
    if GIT_LFS.iter().any(|start| head.starts_with(start)) {
        let lines = String::from_utf8_lossy(head);
        let size = lines.lines().find_map(|line| line.strip_prefix("size ")?.parse::<u64>().ok());
        let size = size.map_or_else(String::new, |size| format!(" of {size} bytes"));
        return Some(format!("it is a Git LFS pointer, which stands for a file{size}: run `git lfs pull`"));
    }
    if head.starts_with(b"/annex/objects/") {
        return Some("it is a git-annex pointer: run `git annex get`".to_owned());
    }
    None
}

/// Files of other formats, by their first bytes.
fn binary(head: &[u8]) -> Option<&'static str> {
    /// The longest header that safetensors takes, whose length comes first.
    const MAX_SAFETENSORS_HEADER: u64 = 100_000_000;
    const FORMATS: [(&[u8], &str); 14] = [
        (b"PK\x03\x04", "it looks like a zip archive, as torch.save and numpy.savez write it"),
        (b"PK\x05\x06", "it looks like a zip archive without entries"),
        (b"\x93NUMPY", "it looks like a .npy file"),
        (b"GGUF", "it looks like a GGUF file"),
        (b"\x89HDF\r\n\x1a\n", "it looks like an HDF5 file"),
        (b"\x80\x02", "it looks like a Python pickle, as older versions of torch.save write it"),
        (b"\x80\x04", "it looks like a Python pickle"),
        (b"\x1f\x8b\x08", "it is compressed with gzip: decompress it first (`gunzip`)"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: decompress it first (`zstd -d`)"),
        (b"\xfd7zXZ\0", "it is compressed with xz: decompress it first (`unxz`)"),
        (b"BZh", "it is compressed with bzip2: decompress it first (`bunzip2`)"),
        (b"\x04\x22\x4d\x18", "it is compressed with lz4: decompress it first (`lz4 -d`)"),
        (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"),
        (b"Rar!\x1a\x07", "it is a RAR archive: unpack it first"),
    ];
    if let Some((_, what)) = FORMATS.iter().find(|(start, _)| head.starts_with(start)) {
        return Some(what);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("it is a tar archive: unpack it first");
    }
    let len = head.first_chunk().map(|len| u64::from_le_bytes(*len));
    let is_safetensors = len.is_some_and(|len| (2..=MAX_SAFETENSORS_HEADER).contains(&len));
    // Its header is JSON, which follows.
    (is_safetensors && head.get(8).is_none_or(|&first| first == b'{'))
        .then_some("it looks like a safetensors file")
}

/// Text: a page or a message that came instead of the file.
fn text(head: &[u8]) -> Option<String> {
    const HTML: [&str; 8] =
        ["<!doctype html", "<html", "<head", "<body", "<title", "<meta", "<script", "<!--"];
    const AGAIN: &str = "check its address and your access to it, and download it again";
    let text = decode(head)?;
    let start = text.trim_start();
    let lower = start.to_ascii_lowercase();
    if HTML.iter().any(|tag| lower.starts_with(tag)) || (lower.starts_with('<') && lower.contains("<html")) {
        return Some(format!("it is an HTML page, as servers send instead of a file: {AGAIN}"));
    }
    let kind = match start.bytes().next()? {
        b'<' => "XML, as storage servers send instead of a file",
        b'{' | b'[' => "JSON, as servers send instead of a file",
        _ => "text",
    };
    let excerpt: String = start.chars().take(80).collect();
    Some(format!("it is {kind}, which begins with {:?}: {AGAIN}", excerpt.trim_end()))
}

/// The bytes as text, if they are.
fn decode(head: &[u8]) -> Option<String> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        String::from_utf16_lossy(&rest.as_chunks().0.iter().map(|bytes| unit(*bytes)).collect::<Vec<_>>())
    };
    let text = match head {
        // Of UTF-16 only what begins as a page does: two bytes of any value are a character.
        [0xff, 0xfe, b'<', 0, ..] => utf16(&head[2..], u16::from_le_bytes),
        [0xfe, 0xff, 0, b'<', ..] => utf16(&head[2..], u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => {
            let text = match std::str::from_utf8(rest) {
                Ok(text) => text,
                // The last character may go on after these bytes.
                Err(err) if err.error_len().is_none() => {
                    std::str::from_utf8(&rest[..err.valid_up_to()]).ok()?
                }
                Err(_) => return None,
            };
            text.to_owned()
        }
    };
    let is_text = |c: char| !c.is_control() || c.is_whitespace();
    text.chars().all(is_text).then_some(text)
}

fn zeros(head: &[u8]) -> Option<String> {
    let is_zero = head.len() >= 8 && head.iter().all(|&byte| byte == 0);
    is_zero.then(|| {
        format!(
            "its first {} bytes are zeros, as of a file that was not written or downloaded to its end",
            head.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(head: &[u8]) -> String {
        let err = error(head);
        assert_eq!(err.kind(), ErrorKind::Signature);
        err.to_string()
    }

    #[test]
    fn files_of_other_formats_are_called_by_their_names() {
        for (head, name) in [
            (&[38, 0, 0, 0, 0, 0, 0, 0, b'{'][..], "looks like a safetensors"),
            (b"PK\x03\x04\0\0\0\0\0", "looks like a zip archive"),
            (b"\x93NUMPY\x01\0", "looks like a .npy"),
            (b"GGUF\x03\0\0\0", "looks like a GGUF"),
            (b"\x89HDF\r\n\x1a\n\0", "HDF5"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", "pickle"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "gunzip"),
            (b"\x28\xb5\x2f\xfd\x04\0", "zstd -d"),
            (b"\xfd7zXZ\0\0\x04", "unxz"),
            (b"BZh91AY&SY", "bunzip2"),
        ] {
            assert!(message(head).contains(name), "{}", message(head));
        }
        let mut tar = [0; HEAD_LEN];
        tar[..4].copy_from_slice(b"m.zt");
        tar[257..262].copy_from_slice(b"ustar");
        assert!(message(&tar).contains("tar archive"));
        assert!(message(&[0; 8]).contains("first 8 bytes are zeros"));
        assert_eq!(message(b""), "the file is empty");
        for head in [&b"\x01"[..], &[0; 7], b"\x88ZTM\r\n\x1a\n", b"\xff\xfe\x01\x02\x03\x04\x05\x06\x07"] {
            assert!(message(head).contains("does not begin with the signature"), "{}", message(head));
        }
    }

    #[test]
    fn pointers_say_how_to_get_the_file() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n";
        assert!(message(pointer).contains("a Git LFS pointer, which stands for a file of 12345 bytes"));
        assert!(message(pointer).contains("`git lfs pull`"));
        assert!(message(&pointer[..50]).contains("`git lfs pull`"));
        assert!(message(b"/annex/objects/SHA256E-s5--ab.zt\n").contains("`git annex get`"));
    }

    #[test]
    fn pages_and_messages_are_quoted() {
        let utf16: Vec<u8> = "\u{feff}<!DOCTYPE HTML>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for page in [
            &b"<!DOCTYPE html>\n<html>"[..],
            b"<!doctype HTML PUBLIC>",
            b"\n\t <HTML lang=en>",
            b"\xef\xbb\xbf\r\n<html>",
            b"<?xml version=\"1.0\"?><!DOCTYPE html><html xmlns>",
            b"<!-- error --><html>",
            &utf16,
        ] {
            assert!(message(page).contains("an HTML page"), "{}", message(page));
            assert!(message(page).contains("download it again"));
        }
        for (text, kind) in [
            ("<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code>", "XML"),
            ("<Error><Code>NoSuchKey</Code>", "XML"),
            ("{\"error\": \"NoSuchKey\"}", "JSON"),
            ("NoSuchKey: not found", "text"),
        ] {
            let message = message(text.as_bytes());
            assert!(message.contains(&format!("it is {kind}")) && message.contains("NoSuchKey"), "{message}");
        }
        // A character that is cut off is no reason not to take it for text.
        assert!(message(&"é".repeat(HEAD_LEN).as_bytes()[..HEAD_LEN - 1]).contains("it is text"));
    }

    #[test]
    fn transfers_as_text_show_in_the_signature() {
        let replace = |from: &[u8], to: &[u8]| {
            let mut bytes = Vec::new();
            let mut rest: &[u8] = &SIGNATURE;
            while let [first, after @ ..] = rest {
                let found = rest.starts_with(from);
                bytes.extend_from_slice(if found { to } else { std::slice::from_ref(first) });
                rest = if found { &rest[from.len()..] } else { after };
            }
            [&bytes[..], &[0; 64]].concat()
        };
        for converted in [
            replace(b"\r\n", b"\n"),
            replace(b"\n", b"\r\n"),
            replace(b"\r", b"\n"),
            replace(b"\n", b"\r"),
            replace(b"\r\n", b"\r"),
            replace(b"\r", b""),
        ] {
            assert!(message(&converted).contains("line ends were converted"), "{converted:?}");
        }
        assert!(message(&replace(&[0x89], &[0x09])).contains("high bit"));
        for first in [&[0xc2, 0x89][..], b"?", "\u{fffd}".as_bytes(), b""] {
            assert!(message(&replace(&[0x89], first)).contains("another text encoding"), "{first:?}");
        }
        assert!(message(&[&replace(b"\r\n", b"\n")[..3], b"2\n\x1a\n"].concat()).contains("line ends"));
        for len in 1..8 {
            assert!(message(&SIGNATURE[..len]).contains("ends within its signature"));
        }
    }
}
