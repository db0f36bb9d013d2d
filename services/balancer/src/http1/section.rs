//! Parses the lines of a section: httparse does the bytes, and what it lets pass is looked at here.
//!
//! httparse takes LF for a line's end. Where each line begins is known after it has parsed, so two bytes before each tell.

use std::mem::MaybeUninit;

use httparse::Header;

use super::fields::{Field, Fields};
use super::known::Known;
use super::limits::FIELDS_CAP;
use super::refusal::Refusal;
use super::span::Span;

/// Room for the fields that httparse finds.
pub(crate) type Slots<'a> = [MaybeUninit<Header<'a>>; FIELDS_CAP];

/// Such room; nothing is written to it yet.
#[inline]
pub(crate) fn slots<'a>() -> Slots<'a> {
    [const { MaybeUninit::uninit() }; FIELDS_CAP]
}

/// Puts the fields of `bytes` into `fields` and shows each of them to `look`. `bytes` end with the section's blank line.
#[inline]
pub(crate) fn collect<'a>(
    bytes: &[u8],
    headers: &[Header<'a>],
    fields: &mut Fields,
    mut look: impl FnMut(Known, &'a [u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for header in headers {
        let name = Span::within(bytes, header.name.as_bytes());
        if !is_line_start(bytes, name.start()) {
            return Err(Refusal::BareLf);
        }
        let known = Known::of(header.name.as_bytes());
        fields.push(Field {
            name,
            value: Span::within(bytes, header.value),
            known,
        });
        if known != Known::Other {
            look(known, header.value)?;
        }
    }
    match bytes.len() == 2 || bytes.ends_with(b"\r\n\r\n") {
        true => Ok(()),
        false => Err(Refusal::BareLf),
    }
}

#[inline]
fn is_line_start(bytes: &[u8], at: usize) -> bool {
    at == 0 || bytes[..at].ends_with(b"\r\n")
}
