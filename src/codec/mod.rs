//! Chunks: filtered and compressed, or decompressed and put back, each on its own.

mod arrange;
mod filter;
mod frame;
mod huffman;
mod pieces;
mod plane;
mod stream;

use zstd::bulk::Decompressor;

use crate::error::{Error, ErrorKind, Result, ensure};
use crate::progress::Checkpoint;

pub(crate) use arrange::Arrangement;
pub use filter::Filter;
use pieces::{Pieces, Refusal};
pub(crate) use plane::{EncodeParams, Encoder, ParamSelector, store};
pub(crate) use stream::{Head, SeekTable, check_stream};

/// The smallest chunk that an encoding may state, in bytes.
pub const MIN_CHUNK_LEN: usize = 64 * 1024;
/// The largest chunk that an encoding without a filter may state, in bytes.
pub const MAX_CHUNK_LEN: usize = 64 * 1024 * 1024;
/// The chunk that the writer makes of data that does not repeat itself throughout, in bytes.
pub const CHUNK_LEN: usize = 1024 * 1024;
/// The chunk that the writer makes of data that repeats itself throughout, and the largest with a filter, in bytes.
pub(crate) const LONG_CHUNK_LEN: usize = 16 * 1024 * 1024;
/// A component of fewer bytes is stored raw.
pub const MIN_COMPRESSED_LEN: usize = 64;

/// What the frames of a compressed component are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Each is a chunk, states its content's size and carries a checksum.
    Chunks,
    /// Each is a chunk and carries a checksum. Their table stands in the blob and is read when it is needed;
    /// until then `chunk_size` is 0 and `stored` is empty.
    Seekable,
    /// All together are one stream, which is decoded from its beginning; `chunk_size` is 0.
    Stream {
        /// Bytes of the stream.
        stored_len: u64,
    },
}

/// The chunk table of a compressed component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zstd<'a> {
    /// What was done to each chunk before it was compressed.
    pub filter: Filter,
    /// Bytes of the component, decoded.
    pub raw_size: u64,
    /// Decoded bytes of each chunk but the last.
    pub chunk_size: u32,
    /// Stored bytes of each chunk; 0 for one that is the same as the chunk before, whose frame is also its own.
    pub stored: &'a [u32],
    /// What the frames are.
    pub frames: Frames,
}

/// One chunk of a compressed component: where it stands and what it must decode to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) number: usize,
    /// Where its frame begins in the blob.
    pub(crate) at: u64,
    /// Bytes of its frame.
    pub(crate) stored_len: usize,
    /// Bytes that it decodes to.
    pub(crate) len: usize,
    /// Whether the frame is that of the chunk before, which it is the same as.
    pub(crate) is_again: bool,
}

/// The chunks of a component, in order. One stream is one chunk.
pub(crate) fn chunks<'a>(zstd: &Zstd<'a>) -> impl Iterator<Item = Chunk> + use<'a> {
    let stream = match zstd.frames {
        Frames::Stream { stored_len } => Some(Chunk {
            number: 0,
            at: 0,
            stored_len: stored_len as usize,
            len: zstd.raw_size as usize,
            is_again: false,
        }),
        Frames::Chunks | Frames::Seekable => None,
    };
    stream.into_iter().chain(table_chunks(zstd))
}

/// The chunks that a table of stored sizes describes.
fn table_chunks<'a>(zstd: &Zstd<'a>) -> impl Iterator<Item = Chunk> + use<'a> {
    let (mut frame, mut left) = (0..0, zstd.raw_size);
    let (chunk_size, frames) = (u64::from(zstd.chunk_size), zstd.frames);
    zstd.stored.iter().enumerate().map(move |(number, &stored_len)| {
        // Tables of other generations state what they state.
        let is_again = stored_len == 0 && frames == Frames::Chunks;
        if !is_again {
            frame = frame.end..frame.end + u64::from(stored_len);
        }
        let len = left.min(chunk_size);
        left -= len;
        let stored_len = (frame.end - frame.start) as usize;
        Chunk { number, at: frame.start, stored_len, len: len as usize, is_again }
    })
}

/// The longest header of a frame, in bytes.
pub(crate) const MAX_HEADER_LEN: usize = 18;

/// Checks what a frame's header says against what the chunk's place asks for; `head` is the frame or at least
/// its first [`MAX_HEADER_LEN`] bytes. Of a stream, [`check_stream`] checks more.
pub(crate) fn check_header(frames: Frames, head: &[u8], chunk: &Chunk) -> Result<()> {
    let Some(header) = frame::Header::parse(head) else {
        return Err(damaged(chunk, "it does not begin with the header of a zstd frame"));
    };
    let len = chunk.len as u64;
    // The frames of other generations need not state their content, and so ask for the window of any content.
    let is_ours = frames == Frames::Chunks;
    ensure!(
        header.content_size == Some(len) || (!is_ours && header.content_size.is_none()),
        Frame,
        "chunk {} states {} bytes of content, its place asks for {len}",
        chunk.number,
        header.content_size.map_or_else(|| "no number of".to_owned(), |size| size.to_string())
    );
    // A window of zstd is at least 1 KiB, whatever the content.
    ensure!(
        header.window_size <= if is_ours { len.max(1024) } else { stream::MAX_WINDOW },
        Frame,
        "chunk {} asks for a window of {} bytes, too many for the chunk's {len}",
        chunk.number,
        header.window_size
    );
    ensure!(header.has_checksum, Frame, "chunk {} carries no content checksum", chunk.number);
    Ok(())
}

fn damaged(chunk: &Chunk, why: &str) -> Error {
    Error::new(ErrorKind::Frame, format!("chunk {} is damaged: {why}", chunk.number))
}

/// Whether a frame decodes to the elements themselves, so that it is decoded into its place.
fn is_direct(zstd: &Zstd<'_>, width: usize) -> bool {
    zstd.filter == Filter::None || (zstd.filter == Filter::Shuffle && width == 1)
}

/// Bytes of scratch memory that [`Decoder::decode_part`] allocates at the most to decode `len` bytes of a chunk. A part of a long
/// stream takes the memory of its window as well.
pub(crate) fn scratch_len(zstd: &Zstd<'_>, width: usize, chunk: &Chunk, len: usize) -> usize {
    // Either the filtered chunk, or its decoded planes and the blocks that they are decoded from.
    let filtered = if is_direct(zstd, width) { 0 } else { chunk.len + chunk.stored_len };
    let is_part = len < chunk.len;
    let partial = match zstd.frames {
        Frames::Stream { .. } if chunk.len > LONG_CHUNK_LEN => 0,
        _ if is_part => chunk.len,
        _ => 0,
    };
    filtered + partial
}

/// Decodes chunks. One for each thread.
pub(crate) struct Decoder {
    zstd: Decompressor<'static>,
    pieces: Pieces,
    filtered: Vec<u8>,
    partial: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Result<Self> {
        let zstd = Decompressor::new().map_err(|err| Error::io("set up the decoder", err))?;
        Ok(Self { zstd, pieces: Pieces::default(), filtered: Vec::new(), partial: Vec::new() })
    }

    /// Decodes a chunk's frame into `out`, which has the chunk's length.
    pub(crate) fn decode(
        &mut self,
        zstd: &Zstd<'_>,
        width: usize,
        frame: &[u8],
        chunk: &Chunk,
        out: &mut [u8],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        checkpoint()?;
        if matches!(zstd.frames, Frames::Stream { .. }) {
            return stream::decode(&mut self.zstd, frame, chunk, (0, out), checkpoint);
        }
        check_header(zstd.frames, frame, chunk)?;
        ensure!(
            zstd.frames != Frames::Chunks
                || zstd::zstd_safe::find_frame_compressed_size(frame) == Ok(frame.len()),
            Frame,
            "chunk {} is not one zstd frame and nothing else",
            chunk.number
        );
        let filter = zstd.filter;
        let direct = is_direct(zstd, width);
        if !direct && zstd.frames == Frames::Chunks {
            match self.pieces.take(&mut self.zstd, frame, chunk.len) {
                Ok(()) => {
                    self.pieces.undo(filter, width, frame, out);
                    return Ok(());
                }
                Err(Refusal::Damaged(why)) => return Err(damaged(chunk, why)),
                Err(Refusal::Whole) => {}
            }
        }
        self.filtered.resize(if direct { 0 } else { out.len() }, 0);
        let target = if direct { &mut *out } else { &mut self.filtered[..] };
        let len = self
            .zstd
            .decompress_to_buffer(frame, target)
            .map_err(|err| damaged(chunk, &format!("zstd says \"{err}\"")))?;
        ensure!(
            len == chunk.len,
            Frame,
            "chunk {} decodes to {len} bytes, its place asks for {}",
            chunk.number,
            chunk.len
        );
        if !direct {
            filter.undo(width, &self.filtered, out);
        }
        Ok(())
    }

    /// Decodes the part of a chunk that begins `skip` bytes in to `out`.
    pub(crate) fn decode_part(
        &mut self,
        zstd: &Zstd<'_>,
        width: usize,
        frame: &[u8],
        chunk: &Chunk,
        (skip, out): (usize, &mut [u8]),
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        if skip == 0 && out.len() == chunk.len {
            return self.decode(zstd, width, frame, chunk, out, checkpoint);
        }
        // To decode a stream piece by piece takes the memory of its window; a short one takes less as a whole.
        if matches!(zstd.frames, Frames::Stream { .. }) && chunk.len > LONG_CHUNK_LEN {
            return stream::decode(&mut self.zstd, frame, chunk, (skip, out), checkpoint);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.resize(chunk.len, 0);
        let result = self.decode(zstd, width, frame, chunk, &mut whole, checkpoint);
        if result.is_ok() {
            out.copy_from_slice(&whole[skip..skip + out.len()]);
        }
        self.partial = whole;
        result
    }
}
