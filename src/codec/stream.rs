//! A whole component as one zstd stream, and components whose table of frames stands in the blob: what the
//! older generations write. Nothing is taken on trust that the blob itself does not show.

use std::io::{self, Read};

use zstd::bulk::Decompressor;

use super::frame::{COMPRESSED, Header, MAX_BLOCK, RLE};
use super::{Chunk, LONG_CHUNK_LEN, MAX_HEADER_LEN};
use crate::error::{Error, ErrorKind, Result, ensure, fail};
use crate::progress::Checkpoint;

/// The window that zstd's highest level asks for, as a power of two: 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;
/// The largest window that a frame may ask for.
pub(super) const MAX_WINDOW: u64 = 1 << MAX_WINDOW_LOG;

/// Bytes of a blob from a place on: as many as there are, up to those of the longest header.
pub(crate) type Head = ([u8; MAX_HEADER_LEN], usize);

/// The magic numbers of frames that zstd passes over, but for their lowest four bits.
const SKIPPABLE: u32 = 0x184d_2a50;

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Frame, format!("the zstd stream is damaged: {why}"))
}

/// Walks the frames and blocks of a stream of `stored_len` bytes without decoding them, and checks that it can
/// decode to `raw_size` bytes; so memory is taken only for what the file really holds.
///
/// A stream's frames may leave their content size out. But a block says how many bytes it takes, and how many
/// it gives: exactly, or when it is compressed, 128 KiB at most.
pub(crate) fn check_stream(
    stored_len: u64,
    raw_size: u64,
    mut head: impl FnMut(u64) -> Result<Head>,
) -> Result<()> {
    let (mut at, mut least, mut most) = (0u64, 0u64, 0u64);
    while at < stored_len {
        let (bytes, len) = head(at)?;
        let bytes = &bytes[..len];
        if word(bytes).is_some_and(|magic| magic & !15 == SKIPPABLE) {
            let size = word(&bytes[4..]).ok_or_else(|| damaged("a frame ends in its header"))?;
            at += 8 + u64::from(size);
            continue;
        }
        let Some(header) = Header::parse(bytes) else {
            return Err(damaged(&format!("no frame begins at byte {at}")));
        };
        ensure!(
            header.window_size <= MAX_WINDOW.max(raw_size),
            Frame,
            "the zstd stream asks for a window of {} bytes",
            header.window_size
        );
        at += header.len as u64;
        let (mut frame_least, mut frame_most) = (0, 0);
        loop {
            let (bytes, len) = head(at)?;
            let [first, second, third] = match bytes[..len].first_chunk::<3>() {
                Some(bytes) => *bytes,
                None => return Err(damaged("it ends before its last block")),
            };
            let block = u32::from_le_bytes([first, second, third, 0]);
            let (kind, size) = ((block >> 1) & 3, u64::from(block >> 3));
            match kind {
                COMPRESSED => frame_most += header.window_size.min(MAX_BLOCK as u64),
                _ => {
                    frame_least += size;
                    frame_most += size;
                }
            }
            at += 3 + if kind == RLE { 1 } else { size };
            if block & 1 == 1 {
                break;
            }
        }
        at += if header.has_checksum { 4 } else { 0 };
        least += header.content_size.unwrap_or(frame_least).min(frame_most);
        most += header.content_size.unwrap_or(frame_most).min(frame_most);
    }
    if at != stored_len {
        return Err(damaged("it ends within a frame"));
    }
    ensure!(
        (least..=most).contains(&raw_size),
        Frame,
        "the zstd stream decodes to {least} to {most} bytes, {raw_size} are asked for"
    );
    Ok(())
}

/// Bytes of a stream that are decoded between two checkpoints.
const SLICE_LEN: usize = 4 * 1024 * 1024;

fn failed(err: io::Error) -> Error {
    damaged(&format!("zstd says \"{err}\""))
}

/// Decodes a stream, of which `out` wants the bytes from `skip` on.
pub(super) fn decode(
    zstd: &mut Decompressor<'static>,
    stored: &[u8],
    chunk: &Chunk,
    (skip, out): (usize, &mut [u8]),
    checkpoint: Checkpoint<'_>,
) -> Result<()> {
    if skip > 0 || out.len() < chunk.len {
        return decode_in_slices(stored, chunk, (skip, out), checkpoint);
    }
    if chunk.len > LONG_CHUNK_LEN {
        // Only what is in one piece can have a window of more than MAX_WINDOW.
        match decode_in_slices(stored, chunk, (0, &mut *out), checkpoint) {
            Err(err) if err.kind() != ErrorKind::Cancelled => {}
            result => return result,
        }
    }
    let len = zstd.decompress_to_buffer(stored, out).map_err(failed)?;
    ensure!(len == chunk.len, Frame, "the zstd stream decodes to {len} bytes, not to {}", chunk.len);
    Ok(())
}

fn decode_in_slices(
    stored: &[u8],
    chunk: &Chunk,
    (skip, out): (usize, &mut [u8]),
    checkpoint: Checkpoint<'_>,
) -> Result<()> {
    let end = skip + out.len();
    let mut reader = zstd::stream::read::Decoder::with_buffer(stored)
        .and_then(|mut reader| reader.window_log_max(MAX_WINDOW_LOG).map(|()| reader))
        .map_err(|err| Error::io("set up the decoder", err))?;
    let mut skipped = 0;
    while skipped < skip {
        checkpoint()?;
        let slice_len = (skip - skipped).min(SLICE_LEN) as u64;
        let len = io::copy(&mut (&mut reader).take(slice_len), &mut io::sink()).map_err(failed)?;
        skipped += len as usize;
        ensure!(len == slice_len, Frame, "the zstd stream decodes to {skipped} bytes, not to {}", chunk.len);
    }
    for slice in out.chunks_mut(SLICE_LEN) {
        checkpoint()?;
        reader.read_exact(slice).map_err(failed)?;
    }
    if end == chunk.len {
        let more = reader.read(&mut [0]).map_err(failed)?;
        ensure!(more == 0, Frame, "the zstd stream decodes to more than {} bytes", chunk.len);
    }
    Ok(())
}

/// The frames of a component whose table stands at the end of its blob.
#[derive(Debug)]
pub(crate) struct SeekTable {
    /// Decoded bytes of each frame but the last.
    pub(crate) frame_size: u32,
    /// Stored bytes of each frame.
    pub(crate) stored: Box<[u32]>,
}

/// Bytes at the end of a table: number of frames, a descriptor, a magic number.
const TABLE_FOOTER: u64 = 9;
const TABLE_MAGIC: u32 = 0x8f92_eab1;

impl SeekTable {
    /// Reads the table at the end of a blob of `stored_len` bytes, which must describe the whole blob and
    /// `raw_size` decoded bytes. `read` fills its buffer with the blob's bytes from a place on.
    pub(crate) fn read(
        stored_len: u64,
        raw_size: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        let broken = |why: &str| Error::new(ErrorKind::Frame, format!("the table of frames {why}"));
        let Some(footer_at) = stored_len.checked_sub(TABLE_FOOTER) else {
            return Err(broken("is missing"));
        };
        let mut footer = [0; TABLE_FOOTER as usize];
        read(footer_at, &mut footer)?;
        let count = u64::from(word(&footer).unwrap_or_default());
        let Some(start) =
            footer_at.checked_sub(8 + 8 * count).filter(|_| word(&footer[5..]) == Some(TABLE_MAGIC))
        else {
            return Err(broken("is missing, or longer than the blob"));
        };
        if footer[4] != 0 {
            return Err(broken("has entries of a kind that is not known"));
        }
        let mut table = vec![0; (footer_at - start) as usize];
        read(start, &mut table)?;
        let (words, _) = table.as_chunks::<4>();
        let mut words = words.iter().map(|bytes| u32::from_le_bytes(*bytes));
        if words.next() != Some(SKIPPABLE + 14)
            || words.next().map(u64::from) != Some(8 * count + TABLE_FOOTER)
        {
            return Err(broken("does not begin where its end says"));
        }
        let (mut stored, mut stored_sum, mut left) = (Vec::with_capacity(count as usize), 0, raw_size);
        let mut frame_size = 0;
        while let (Some(size), Some(decoded)) = (words.next(), words.next()) {
            if stored.is_empty() {
                frame_size = decoded;
            }
            if decoded == 0
                || frame_size as usize > LONG_CHUNK_LEN
                || u64::from(decoded) != left.min(frame_size.into())
            {
                return Err(broken("states frames that are not of one size, or do not add up"));
            }
            left -= u64::from(decoded);
            stored_sum += u64::from(size);
            stored.push(size);
        }
        if left != 0 || stored_sum != start {
            fail!(
                Frame,
                "the table of frames states {} bytes stored and {} decoded, there are {start} and {raw_size}",
                stored_sum,
                raw_size - left
            );
        }
        Ok(Self { frame_size, stored: stored.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &[u8], raw_size: usize) -> Result<()> {
        check_stream(stream.len() as u64, raw_size as u64, |at| {
            let rest = stream.get(at as usize..).unwrap_or_default();
            let mut bytes = [0; MAX_HEADER_LEN];
            let len = rest.len().min(bytes.len());
            bytes[..len].copy_from_slice(&rest[..len]);
            Ok((bytes, len))
        })
    }

    fn stream(content: &[u8], level: i32) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
        io::Write::write_all(&mut encoder, content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_stream_decodes_whole_and_in_part() {
        let content: Vec<u8> = (0..700_000u32).map(|at| (at / 3) as u8 ^ (at >> 9) as u8).collect();
        let skippable = [0x55, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        for level in [1, 19, 22] {
            let stored =
                [&stream(&content[..300_000], level)[..], &skippable, &stream(&content[300_000..], level)]
                    .concat();
            check(&stored, content.len()).unwrap();
            let chunk =
                Chunk { number: 0, at: 0, stored_len: stored.len(), len: content.len(), is_again: false };
            let mut zstd = Decompressor::new().unwrap();
            for (skip, len) in [(0, 700_000), (0, 5), (299_990, 20), (699_999, 1), (700_000, 0)] {
                let mut out = vec![0; len];
                decode(&mut zstd, &stored, &chunk, (skip, &mut out), &|| Ok(())).unwrap();
                assert_eq!(out, content[skip..skip + len]);
            }
            for wrong in [content.len() - 1, content.len() + 1] {
                let chunk = Chunk { len: wrong, ..chunk };
                for skip in [0, wrong] {
                    let mut out = vec![0; wrong - skip];
                    assert!(decode(&mut zstd, &stored, &chunk, (skip, &mut out), &|| Ok(())).is_err());
                }
            }
        }
    }

    #[test]
    fn a_long_stream_is_decoded_in_slices_that_can_be_cancelled() {
        let content: Vec<u8> = (0..LONG_CHUNK_LEN as u32 + 1).map(|at| (at >> 7) as u8).collect();
        // Of a window of 256 MiB, which only decoding in one piece takes, and of the usual one.
        let mut wide = vec![0x28, 0xb5, 0x2f, 0xfd, 0x80, 18 << 3];
        wide.extend((content.len() as u32).to_le_bytes());
        for (at, block) in content.chunks(128 * 1024).enumerate() {
            let is_last = u32::from((at + 1) * 128 * 1024 >= content.len());
            wide.extend(&(is_last | (block.len() as u32) << 3).to_le_bytes()[..3]);
            wide.extend(block);
        }
        for (stored, is_sliced) in [(stream(&content, 1), true), (wide, false)] {
            let chunk =
                Chunk { number: 0, at: 0, stored_len: stored.len(), len: content.len(), is_again: false };
            let mut zstd = Decompressor::new().unwrap();
            let mut out = vec![0; content.len()];
            let left = std::cell::Cell::new(usize::MAX);
            let checkpoint = || {
                ensure!(left.get() > 0, Cancelled, "stop");
                left.set(left.get() - 1);
                Ok(())
            };
            decode(&mut zstd, &stored, &chunk, (0, &mut out), &checkpoint).unwrap();
            assert!(out == content);
            left.set(3);
            let result = decode(&mut zstd, &stored, &chunk, (0, &mut out), &checkpoint);
            assert_eq!(result.err().map(|err| err.kind()), is_sliced.then_some(ErrorKind::Cancelled));
        }
    }

    #[test]
    fn a_stream_that_cannot_be_so_long_is_noticed_before_it_is_decoded() {
        let stored = stream(&[7; 1000], 3);
        assert!(check(&stored, 1000).is_ok());
        assert!(check(&stored, 1 << 40).is_err());
        assert!(check(&stored[..stored.len() - 1], 1000).is_err());
        assert!(check(b"no stream", 9).is_err());
        assert!(check(b"", 1).is_err());
        assert!(check(b"", 0).is_ok());
    }

    #[test]
    fn a_table_of_frames_must_describe_the_blob() {
        let table = |frames: &[(u32, u32)]| {
            let mut bytes = vec![0; frames.iter().map(|(stored, _)| *stored as usize).sum()];
            bytes.extend([0x5e, 0x2a, 0x4d, 0x18]);
            bytes.extend((8 * frames.len() as u32 + 9).to_le_bytes());
            frames
                .iter()
                .for_each(|(stored, raw)| bytes.extend([stored.to_le_bytes(), raw.to_le_bytes()].concat()));
            bytes.extend((frames.len() as u32).to_le_bytes());
            bytes.push(0);
            bytes.extend(TABLE_MAGIC.to_le_bytes());
            bytes
        };
        let read = |bytes: &[u8], raw_size| {
            SeekTable::read(bytes.len() as u64, raw_size, |at, out| {
                out.copy_from_slice(&bytes[at as usize..][..out.len()]);
                Ok(())
            })
        };
        let good = table(&[(5, 100), (6, 100), (1, 30)]);
        let read_back = read(&good, 230).unwrap();
        assert_eq!((read_back.frame_size, &*read_back.stored), (100, &[5, 6, 1][..]));
        assert!(read(&table(&[]), 0).is_ok());
        assert!(read(&good, 231).is_err());
        assert!(read(&good[1..], 230).is_err());
        assert!(read(&table(&[(5, 100), (6, 90), (1, 30)]), 220).is_err());
        assert!(read(&table(&[(5, 100), (6, 110)]), 210).is_err());
        assert!(read(&table(&[(5, 0)]), 0).is_err());
        for at in 0..good.len() - 12 {
            assert!(read(&good[at + 1..], 230).is_err());
        }
    }
}
