//! A range of a head's bytes, in half the room of a slice and without its lifetime.

/// From where, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// The `len` bytes from `at` on. A head is far shorter than `u32` counts: [`Limits`](super::Limits) sees to it.
    #[inline]
    pub(crate) fn new(at: usize, len: usize) -> Span {
        Span {
            at: at as u32,
            len: len as u32,
        }
    }

    /// Where `part` lies in `whole`, which it is a part of.
    #[inline]
    pub(crate) fn within(whole: &[u8], part: &[u8]) -> Span {
        Span::new(
            part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr()),
            part.len(),
        )
    }

    /// Its first byte.
    #[inline]
    pub(crate) fn start(self) -> usize {
        self.at as usize
    }

    /// The byte after its last.
    #[inline]
    pub(crate) fn end(self) -> usize {
        self.at as usize + self.len as usize
    }

    /// What it stands for.
    #[inline]
    pub(crate) fn of(self, whole: &[u8]) -> &[u8] {
        &whole[self.start()..self.end()]
    }

    /// What it stands for, where only ASCII can have passed.
    #[inline]
    pub(crate) fn text(self, whole: &[u8]) -> &str {
        std::str::from_utf8(self.of(whole)).expect("a grammar of ASCII was checked")
    }
}
