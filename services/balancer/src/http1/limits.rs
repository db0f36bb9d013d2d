//! How much of a message is taken before it is refused. Time is not here: that is the business of whoever reads the socket.

/// The bounds of what is read. All of them are inclusive: what is exactly as large is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A head in all, from the first byte of its first line to the blank line's end.
    pub head_bytes_max: usize,
    /// The fields of a head, and those of a trailer section; never more than [`FIELDS_CAP`] whatever is written here.
    pub fields_max: usize,
    /// The target in a request's first line.
    pub target_bytes_max: usize,
    /// The lines after the last chunk, the blank one among them.
    pub trailer_bytes_max: usize,
    /// One chunk's first line: its size, its extensions and the line's end.
    pub chunk_line_bytes_max: usize,
}

/// The most fields a head can have: places for so many are on the stack while a head is read.
pub const FIELDS_CAP: usize = 256;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 32_768,
            fields_max: 100,
            target_bytes_max: 8_192,
            trailer_bytes_max: 8_192,
            chunk_line_bytes_max: 1_024,
        }
    }
}

impl Limits {
    /// How many fields are taken after all.
    pub(crate) fn fields(&self) -> usize {
        self.fields_max.min(FIELDS_CAP)
    }
}
