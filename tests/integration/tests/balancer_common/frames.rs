//! Frames of HTTP/2, written by hand: what no client library would send.

use anyhow::{Context, Result, bail, ensure};
use tokio::time::timeout;

use super::{Balancer, SOON, Wire};

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
pub(crate) const CANCEL: u32 = 0x8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as literals that are not indexed (RFC 7541, 6.2.2), in whatever case and order they are given.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(name, &mut block);
        string(value, &mut block);
    }
    block
}

/// A character is a byte.
fn string(text: &str, out: &mut Vec<u8>) {
    let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
    match bytes.len() {
        length @ 0..127 => out.push(length as u8),
        length => {
            out.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.push((rest % 128) as u8 | 0x80);
                rest /= 128;
            }
            out.push(rest as u8);
        }
    }
    out.extend_from_slice(&bytes);
}

/// A whole header block in one frame.
pub(crate) fn headers(stream: u32, flags: u8, list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, fields(list))
}

/// A request without content.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(
        stream,
        END_STREAM,
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ],
    )
}

/// The reset of a stream.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

/// A frame that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a reset or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4);
        code.map_or(u32::MAX, |code| {
            u32::from_be_bytes(code.try_into().expect("four bytes"))
        })
    }
}

/// How the balancer has taken a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// With this status.
    Answered(u16),
    /// By a reset of the stream, with this code.
    Reset(u32),
    /// By the end of the connection, with this code; none if it simply was over.
    Closed(Option<u32>),
}

/// A connection of frames.
pub(crate) struct Frames {
    pub(crate) wire: Wire,
}

impl Balancer {
    /// A connection on which only the preface was sent.
    pub(crate) async fn frames(&self) -> Result<Frames> {
        let mut wire = self.wire_with(b"h2", None).await?;
        wire.write([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat())
            .await?;
        Ok(Frames { wire })
    }
}

impl Frames {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.wire.write(bytes).await
    }

    /// The next frame; nothing at the end of the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>> {
        let read = async {
            loop {
                let buffer = &mut self.wire.buffer;
                if let Some(&[high, middle, low, kind, flags, a, b, c, d]) = buffer.first_chunk() {
                    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                    if buffer.len() >= 9 + length {
                        let payload = buffer.split_to(9 + length)[9..].to_vec();
                        return Some(Frame {
                            kind,
                            flags,
                            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
                            payload,
                        });
                    }
                }
                if !self.wire.fill().await {
                    return None;
                }
            }
        };
        timeout(SOON, read).await.context("no frame")
    }

    /// The next frame of this kind.
    pub(crate) async fn wait_for(&mut self, kind: u8) -> Result<Frame> {
        while let Some(frame) = self.next().await? {
            if frame.kind == kind {
                return Ok(frame);
            }
        }
        bail!("closed before a frame of kind {kind}")
    }

    /// What becomes of a stream. Its answer must be the first on the connection: HPACK's table is not kept.
    pub(crate) async fn taken(&mut self, stream: u32) -> Result<Taken> {
        let mut away = None;
        while let Some(frame) = self.next().await? {
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    return Ok(Taken::Answered(status(&frame.payload)?));
                }
                RST_STREAM if frame.stream == stream => return Ok(Taken::Reset(frame.code())),
                GOAWAY => away = Some(frame.code()),
                _ => {}
            }
        }
        Ok(Taken::Closed(away))
    }

    /// The code with which the connection is closed, whatever else comes before; none if it simply is over.
    pub(crate) async fn closed(&mut self) -> Result<Option<u32>> {
        let mut away = None;
        while let Some(frame) = self.next().await? {
            if frame.kind == GOAWAY {
                away = Some(frame.code());
            }
        }
        Ok(away)
    }

    /// What is written is written while everything that comes is read; tells how it ended. A writer that is cut off is no error.
    pub(crate) async fn flood(&mut self, bytes: impl AsRef<[u8]>) -> Result<Option<u32>> {
        // Small parts, so that the end is seen in between.
        for part in bytes.as_ref().chunks(1024) {
            if timeout(SOON, self.write(part)).await?.is_err() {
                break;
            }
        }
        self.closed().await
    }

    /// Whether another request is answered.
    pub(crate) async fn is_alive(&mut self, ping: u64) -> Result<bool> {
        let ping = ping.to_be_bytes();
        if self.write(frame(PING, 0, 0, ping)).await.is_err() {
            return Ok(false);
        }
        while let Some(frame) = self.next().await? {
            if frame.kind == PING && frame.flags == ACK && frame.payload == ping {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The status at the front of the first header block of a connection.
fn status(block: &[u8]) -> Result<u16> {
    // The table's size may be told first (RFC 7541, 6.3).
    let begin = block.iter().position(|byte| byte & 0xe0 != 0x20);
    let block = &block[begin.context("an empty block")?..];
    let indexed = [200, 204, 206, 304, 400, 404, 500];
    if let Some(status) = indexed.get(usize::from(block[0].wrapping_sub(0x88))) {
        return Ok(*status);
    }
    // A literal whose name is :status, in one way or another.
    ensure!(matches!(block[0], 0x08 | 0x18 | 0x48), "{block:x?}");
    let length = usize::from(block[1] & 0x7f);
    let value = block.get(2..2 + length).context("a short block")?;
    if block[1] & 0x80 == 0 {
        return Ok(std::str::from_utf8(value)?.parse()?);
    }
    // Huffman's codes of the digits (RFC 7541, appendix B): five bits for 0 to 2, six for the rest.
    let bits: Vec<u8> = value
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let code = |length: usize| {
            bits[at..at + length]
                .iter()
                .fold(0, |sum, bit| sum * 2 + bit)
        };
        let five = code(5);
        let (digit, length) = if five < 3 {
            (five, 5)
        } else {
            (code(6) - 0x19 + 3, 6)
        };
        at += length;
        status = status * 10 + u16::from(digit);
    }
    Ok(status)
}
