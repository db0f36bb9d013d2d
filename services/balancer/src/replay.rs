//! What was read of a request's content, kept in case that it must be sent once more.

use crate::body::Content;

/// The pieces so far, as long as they are few.
#[derive(Debug)]
pub struct Replay {
    pieces: Vec<Content>,
    bytes_left: usize,
    is_whole: bool,
}

impl Replay {
    /// Keeps at most so many bytes.
    pub fn new(bytes_max: usize) -> Replay {
        Replay {
            pieces: Vec::new(),
            bytes_left: bytes_max,
            is_whole: true,
        }
    }

    /// Whether everything that was read is still here.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The piece with this number, if it was read and is kept.
    pub fn piece(&self, index: usize) -> Option<Content> {
        self.pieces.get(index).cloned()
    }

    /// Keeps a piece, or, where it is too much, nothing any more.
    pub fn keep(&mut self, piece: &Content) {
        let bytes = match piece {
            Content::Data(data) => data.len(),
            Content::End(_) => 0,
        };
        match self.bytes_left.checked_sub(bytes) {
            Some(left) if self.is_whole => {
                self.bytes_left = left;
                self.pieces.push(piece.clone());
            }
            _ => {
                self.is_whole = false;
                self.pieces.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_fits_can_be_sent_again_and_what_does_not_is_let_go() {
        let data = |text| Content::Data(Bytes::from_static(text));
        let mut replay = Replay::new(5);
        replay.keep(&data(b"abc"));
        replay.keep(&data(b"de"));
        assert!(replay.is_whole());
        assert!(matches!(replay.piece(1), Some(Content::Data(piece)) if piece == "de"));
        replay.keep(&data(b"f"));
        assert!(!replay.is_whole());
        assert!(replay.piece(0).is_none());
        replay.keep(&Content::End(None));
        assert!(!replay.is_whole() && replay.piece(0).is_none());
    }
}
