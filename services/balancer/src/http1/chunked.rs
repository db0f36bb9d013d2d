//! Reads chunked content (RFC 9112, 7.1), piece by piece, as it comes.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::chunk_line;
use super::limits::Limits;
use super::refusal::Refusal;
use super::scan::{self, Section};
use super::trailers::Trailers;

/// What comes next of the content.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Data; never empty.
    Data(Bytes),
    /// More bytes are needed.
    More,
    /// Nothing: all of it was read, and what is left in the buffer is another message's.
    End(Option<Trailers>),
}

/// Chunks are expected to be more data than framing. Each may have so many bytes of first line...
const LINE_BYTES_FREE: u64 = 16;
/// ...plus what its data pays for, and beyond that all of them together so many. Otherwise a client could make us read a thousand
/// bytes of extensions for each byte of content.
const OVERHEAD_BYTES_MAX: u64 = 16_384;

/// A reader of one message's chunks.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    overhead: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At a chunk's first line.
    Line,
    /// In its data, of which so much is missing.
    Data(u64),
    /// At the line's end after its data.
    DataEnd,
    /// At the trailers, or the blank line instead of them.
    Trailers,
    /// Behind everything.
    Done,
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked::new()
    }
}

impl Chunked {
    /// At the beginning.
    pub fn new() -> Chunked {
        Chunked {
            state: State::Line,
            overhead: 0,
        }
    }

    /// Takes the next piece off the buffer's front.
    pub fn decode(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Piece, Refusal> {
        loop {
            self.state = match self.state {
                State::Line => match self.line(buffer, limits)? {
                    None => return Ok(Piece::More),
                    Some(0) => State::Trailers,
                    Some(size) => State::Data(size),
                },
                State::Data(missing) => {
                    // Not more than `missing` where that is less than a buffer can hold.
                    let len =
                        usize::try_from(missing).map_or(buffer.len(), |m| m.min(buffer.len()));
                    if len == 0 {
                        return Ok(Piece::More);
                    }
                    let left = missing - len as u64;
                    self.state = match left {
                        0 => State::DataEnd,
                        _ => State::Data(left),
                    };
                    return Ok(Piece::Data(buffer.split_to(len).freeze()));
                }
                State::DataEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        let _ = buffer.split_to(2);
                        State::Line
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(Refusal::ChunkEnd),
                },
                State::Trailers => {
                    let Some(len) = scan::end(buffer, Section::Trailers, limits)? else {
                        return Ok(Piece::More);
                    };
                    let section = buffer.split_to(len);
                    self.state = State::Done;
                    return match len {
                        2 => Ok(Piece::End(None)),
                        _ => Trailers::parse(section.freeze(), limits)
                            .map(|trailers| Piece::End(Some(trailers))),
                    };
                }
                State::Done => return Ok(Piece::End(None)),
            };
        }
    }

    /// A chunk's size, its first line taken off.
    fn line(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Option<u64>, Refusal> {
        let line_max = limits.chunk_line_bytes_max;
        let within = &buffer[..buffer.len().min(line_max)];
        let Some(end) = memchr(b'\n', within) else {
            return match buffer.len() > line_max {
                true => Err(Refusal::ChunkLineTooLong),
                false => Ok(None),
            };
        };
        let line = within[..end].strip_suffix(b"\r").ok_or(Refusal::BareLf)?;
        let size = chunk_line::size(line)?;
        let paid = LINE_BYTES_FREE.saturating_add(size.saturating_mul(2));
        self.overhead = (self.overhead + end as u64 + 1).saturating_sub(paid);
        if self.overhead > OVERHEAD_BYTES_MAX {
            return Err(Refusal::ChunkOverhead);
        }
        let _ = buffer.split_to(end + 1);
        Ok(Some(size))
    }
}
