//! The content of one message of HTTP/1.1, taken piece by piece off what was read; the same for clients and backends.

use bytes::{Bytes, BytesMut};

use crate::http1::{Chunked, Framing, Limits, Piece, Refusal, Trailers};

/// What comes next of the content.
#[derive(Clone, Debug)]
pub enum Content {
    /// Data; never empty.
    Data(Bytes),
    /// Nothing: all of it was read.
    End(Option<Trailers>),
}

/// How far one content was read.
#[derive(Clone, Debug)]
pub struct Body(State);

#[derive(Clone, Debug)]
enum State {
    /// So many bytes are missing.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    /// Content of this framing, of which nothing was read.
    pub fn new(framing: Framing) -> Body {
        Body(match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::new()),
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// Takes the next piece off the buffer's front; `None` if more bytes are needed.
    ///
    /// # Errors
    /// When chunks are malformed.
    pub fn next(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<Content>, Refusal> {
        match &mut self.0 {
            State::Length(0) => Ok(Some(Content::End(None))),
            State::Length(_) | State::UntilClose if buffer.is_empty() => Ok(None),
            State::Length(missing) => {
                let len = usize::try_from(*missing).map_or(buffer.len(), |m| m.min(buffer.len()));
                *missing -= len as u64;
                Ok(Some(Content::Data(buffer.split_to(len).freeze())))
            }
            State::UntilClose => Ok(Some(Content::Data(buffer.split().freeze()))),
            State::Chunked(chunked) => Ok(match chunked.decode(buffer, limits)? {
                Piece::Data(data) => Some(Content::Data(data)),
                Piece::More => None,
                Piece::End(trailers) => Some(Content::End(trailers)),
            }),
        }
    }

    /// Whether the end of the connection is the content's end.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(framing: Framing, bytes: &str) -> (Vec<u8>, bool, BytesMut) {
        let mut body = Body::new(framing);
        let mut buffer = BytesMut::from(bytes);
        let mut data = Vec::new();
        loop {
            match body.next(&mut buffer, &Limits::default()).unwrap() {
                Some(Content::Data(piece)) => data.extend_from_slice(&piece),
                Some(Content::End(_)) => return (data, true, buffer),
                None => return (data, false, buffer),
            }
        }
    }

    #[test]
    fn content_ends_where_its_framing_says() {
        let cases = [
            (Framing::None, "next", "", true, "next"),
            (Framing::Length(3), "abcnext", "abc", true, "next"),
            (Framing::Length(9), "abc", "abc", false, ""),
            (
                Framing::Chunked,
                "1\r\na\r\n0\r\n\r\nnext",
                "a",
                true,
                "next",
            ),
            (Framing::UntilClose, "abc", "abc", false, ""),
        ];
        for (framing, bytes, data, ended, rest) in cases {
            let (found, end, left) = read(framing, bytes);
            assert_eq!(
                (data.as_bytes(), ended, rest.as_bytes()),
                (&found[..], end, &left[..]),
                "{framing:?}"
            );
        }
    }
}
