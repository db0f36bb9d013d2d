//! The fields after the content.
//!
//! Only those that nothing before could have depended on: a trailer that says where the message ends, whom it is for or who sent it
//! would be believed by some readers and not by others (RFC 9110, 6.5.1).

use bytes::{Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Status};

use super::diagnosis;
use super::fields::Fields;
use super::from_parts::{self, Writer};
use super::known::Known;
use super::limits::{FIELDS_CAP, Limits};
use super::refusal::Refusal;
use super::section::collect;

/// A trailer section that has at least one field.
#[derive(Clone, Debug)]
pub struct Trailers {
    pub(crate) fields: Fields,
}

impl Trailers {
    /// Of a whole section, its blank line included.
    pub(crate) fn parse(section: Bytes, limits: &Limits) -> Result<Trailers, Refusal> {
        let mut headers = [EMPTY_HEADER; FIELDS_CAP];
        let Ok(Status::Complete((_, headers))) =
            httparse::parse_headers(&section, &mut headers[..limits.fields()])
        else {
            return Err(diagnosis::of_trailers(&section));
        };
        let mut fields = Fields::default();
        collect(&section, headers, &mut fields, |_, _| {
            Err(Refusal::TrailerForbidden)
        })?;
        match headers
            .iter()
            .any(|header| is_forbidden(header.name.as_bytes()))
        {
            true => Err(Refusal::TrailerForbidden),
            false => {
                fields.bytes = section;
                Ok(Trailers { fields })
            }
        }
    }

    /// Of the trailers of an HTTP/2 stream, in lower case as they must be; `None` if there is no field.
    pub fn from_fields<'a>(
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        limits: &Limits,
    ) -> Result<Option<Trailers>, Refusal> {
        let mut writer = Writer {
            bytes: BytesMut::new(),
            fields: Fields::default(),
            limits,
        };
        for (name, value) in fields {
            let known = from_parts::check(name, value)?;
            if known != Known::Other || is_forbidden(name) {
                return Err(Refusal::TrailerForbidden);
            }
            writer.field(known, name, value)?;
            if writer.bytes.len() > limits.trailer_bytes_max {
                return Err(Refusal::TrailersTooLarge);
            }
        }
        let Writer {
            bytes, mut fields, ..
        } = writer;
        fields.bytes = bytes.freeze();
        Ok((!fields.list().is_empty()).then_some(Trailers { fields }))
    }

    /// All fields, as name and value, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(_, name, value)| (name, value))
    }
}

/// Names that are not known to the edge, and may not come late either: what they say governs how the content was to be handled.
/// Every name that *is* known is forbidden, too.
const FORBIDDEN: [&str; 20] = [
    "accept-ranges",
    "age",
    "authentication-info",
    "clear-site-data",
    "content-encoding",
    "content-range",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "vary",
    "warning",
    "www-authenticate",
    "x-accel-redirect",
];

fn is_forbidden(name: &[u8]) -> bool {
    FORBIDDEN
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}
