//! Why a message is not taken: one variant for each rule, with the section that has it.

use std::fmt;

use http::StatusCode;

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident = $status:ident, $section:literal, $text:literal;)*) => {
        /// A rule that a message breaks. The list is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Refusal {
            /// Every one, for the labels of a metric.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$variant),*];

            /// The status that a client is answered with. What only a backend can break is 502.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Refusal::$variant => StatusCode::$status,)*
                }
            }

            /// Where the rule stands.
            pub fn section(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $section,)*
                }
            }

            /// One short sentence, fit for whoever sent the message.
            pub fn text(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $text,)*
                }
            }

            /// Its name, for logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Refusal::$variant => stringify!($variant),)*
                }
            }
        }
    };
}

refusals! {
    // Lines.
    /// A line ends in LF alone. A recipient may take it; then another one on the way may see another message.
    BareLf = BAD_REQUEST, "RFC 9112 2.2", "A line does not end in CR LF.";
    /// A CR that no LF follows.
    BareCr = BAD_REQUEST, "RFC 9112 2.2", "A CR stands alone.";
    /// NUL or another control byte.
    ControlByte = BAD_REQUEST, "RFC 9110 5.5", "There is a control byte in the head.";
    /// More than one blank line before a request.
    LeadingBlankLines = BAD_REQUEST, "RFC 9112 2.2", "There is more than one blank line before the request.";
    /// The head is longer than is taken.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585 5", "The head is too large.";
    /// There are more fields than are taken.
    TooManyFields = REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585 5", "There are too many fields.";

    // A request's first line.
    /// The first line is not method, target and version with one space between them.
    RequestLine = BAD_REQUEST, "RFC 9112 3", "The request line is malformed.";
    /// The method is not a token.
    MethodNotToken = BAD_REQUEST, "RFC 9112 3.1", "The method is not a token.";
    /// HTTP/2 where HTTP/1.1 is spoken.
    Preface = BAD_REQUEST, "RFC 9113 3.4", "HTTP/2 is not spoken on this connection.";
    /// A version other than 1.0 and 1.1.
    Version = HTTP_VERSION_NOT_SUPPORTED, "RFC 9110 15.6.6", "Only HTTP/1.0 and HTTP/1.1 are spoken here.";
    /// The target is longer than is taken.
    TargetTooLong = URI_TOO_LONG, "RFC 9112 3", "The target is too long.";
    /// A byte that RFC 3986 has in no path and no query: `"`, `<`, `>`, `[`, `]`, `\`, `^`, `` ` ``, `{`, `|`, `}`, `#` (a fragment is never sent)
    /// and all that is not ASCII.
    TargetByte = BAD_REQUEST, "RFC 3986 3.3", "There is a byte in the target that must be percent-encoded.";
    /// A `%` without two hex digits.
    TargetEscape = BAD_REQUEST, "RFC 3986 2.1", "There is a percent sign in the target without two hex digits.";
    /// The target's form is not one that the method takes: no leading slash, `*` outside OPTIONS, an authority outside CONNECT.
    TargetForm = BAD_REQUEST, "RFC 9112 3.2", "The target has not the form that the method takes.";
    /// A scheme other than `http` and `https`.
    Scheme = BAD_REQUEST, "RFC 9110 4.2", "The scheme is neither http nor https.";

    // Fields.
    /// A field that goes on in the next line.
    ObsFold = BAD_REQUEST, "RFC 9112 5.2", "A field is folded.";
    /// A blank between a field's name and its colon.
    SpaceBeforeColon = BAD_REQUEST, "RFC 9112 5.1", "There is a blank before a colon.";
    /// A field line that begins with the colon.
    EmptyName = BAD_REQUEST, "RFC 9112 5", "A field has no name.";
    /// A field line without a colon.
    NoColon = BAD_REQUEST, "RFC 9112 5", "A field has no colon.";
    /// A field's name is not a token; or it is not in lower case, in HTTP/2.
    FieldName = BAD_REQUEST, "RFC 9110 5.1", "The name of a field is not a token.";
    /// `Connection` is not a list of tokens.
    ConnectionOption = BAD_REQUEST, "RFC 9110 7.6.1", "Connection is not a list of tokens.";
    /// An expectation other than `100-continue`.
    Expectation = EXPECTATION_FAILED, "RFC 9110 10.1.1", "Nothing but 100-continue can be expected.";

    // Host.
    /// No Host; HTTP/1.0 may do without one by its RFC, but what is passed on may not.
    HostMissing = BAD_REQUEST, "RFC 9112 3.2", "There is no Host.";
    /// More than one Host, equal or not.
    HostRepeated = BAD_REQUEST, "RFC 9112 3.2", "There is more than one Host.";
    /// Not a host with or without a port, or no host at all.
    HostInvalid = BAD_REQUEST, "RFC 9112 3.2", "The host or its port is malformed.";
    /// A name or a password before the host.
    Userinfo = BAD_REQUEST, "RFC 9110 4.2.4", "There is user information before the host.";
    /// The target's authority is not what Host says.
    HostDiffers = BAD_REQUEST, "RFC 9112 3.2.2", "Host is not the authority of the target.";

    // Framing.
    /// Two Content-Length fields, equal or not.
    LengthRepeated = BAD_REQUEST, "RFC 9112 6.3", "There is more than one Content-Length.";
    /// A list in Content-Length, of equal members or not.
    LengthList = BAD_REQUEST, "RFC 9112 6.3", "Content-Length is a list.";
    /// Something else than digits in Content-Length.
    LengthNotDigits = BAD_REQUEST, "RFC 9110 8.6", "Content-Length is not a number.";
    /// A number that does not fit into 64 bits.
    LengthTooLarge = PAYLOAD_TOO_LARGE, "RFC 9110 8.6", "Content-Length is larger than any content.";
    /// Both Content-Length and Transfer-Encoding.
    LengthAndCoding = BAD_REQUEST, "RFC 9112 6.3", "There is a Content-Length beside a Transfer-Encoding.";
    /// Transfer-Encoding in HTTP/1.0.
    CodingInHttp10 = BAD_REQUEST, "RFC 9112 6.1", "There is a Transfer-Encoding in HTTP/1.0.";
    /// The last coding is not `chunked`, so nobody knows where the body ends.
    CodingNotChunked = BAD_REQUEST, "RFC 9112 6.3", "The last transfer coding is not chunked.";
    /// A coding besides `chunked`.
    CodingUnknown = NOT_IMPLEMENTED, "RFC 9112 6.1", "No transfer coding but chunked is understood.";
    /// Transfer-Encoding is empty, is not a list of codings, names `chunked` twice or gives it parameters.
    CodingMalformed = BAD_REQUEST, "RFC 9112 7", "Transfer-Encoding is malformed.";
    /// TRACE with content.
    TraceWithContent = BAD_REQUEST, "RFC 9110 9.3.8", "A TRACE has no content.";

    // Chunks.
    /// No hex digit where a chunk's size must be.
    ChunkSize = BAD_REQUEST, "RFC 9112 7.1", "The size of a chunk is malformed.";
    /// More than sixteen digits.
    ChunkSizeTooLarge = BAD_REQUEST, "RFC 9112 7.1", "The size of a chunk has more than sixteen digits.";
    /// An extension that the grammar has not.
    ChunkExtension = BAD_REQUEST, "RFC 9112 7.1.1", "A chunk extension is malformed.";
    /// A chunk's first line is longer than is taken.
    ChunkLineTooLong = BAD_REQUEST, "RFC 9112 7.1.1", "The first line of a chunk is too long.";
    /// All chunks together have far more framing than data.
    ChunkOverhead = BAD_REQUEST, "RFC 9112 7.1.1", "The chunks are more framing than data.";
    /// No CR LF after a chunk's data.
    ChunkEnd = BAD_REQUEST, "RFC 9112 7.1", "A chunk is longer than it says.";
    /// The trailer section is longer than is taken.
    TrailersTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "RFC 6585 5", "The trailers are too large.";
    /// A field that must not come after the content: one of framing, routing, authentication, caching or the content's form.
    TrailerForbidden = BAD_REQUEST, "RFC 9110 6.5.1", "There is a field in the trailers that must come before the content.";

    // HTTP/2.
    /// A field that speaks of a connection.
    Http2ConnectionField = BAD_REQUEST, "RFC 9113 8.2.2", "There is a field of HTTP/1.1 connections.";
    /// TE with anything but `trailers`.
    Http2Te = BAD_REQUEST, "RFC 9113 8.2.2", "TE is not trailers.";
    /// A blank at either end of a value.
    Http2Blank = BAD_REQUEST, "RFC 9113 8.2.1", "A value begins or ends with a blank.";
    /// An empty `:path`.
    Http2Path = BAD_REQUEST, "RFC 9113 8.3.1", "The path is empty.";
    /// A content of some length, and no content.
    Http2Length = BAD_REQUEST, "RFC 9113 8.1.1", "Content-Length speaks of content, and there is none.";

    // Responses.
    /// The first line is not version, status and reason with one space between them.
    StatusLine = BAD_GATEWAY, "RFC 9112 4", "The status line is malformed.";
    /// A status below 100 or above 599.
    StatusCode = BAD_GATEWAY, "RFC 9110 15", "There is no such status.";
    /// A framing field where no content can be: with 1xx and 204.
    ContentForbidden = BAD_GATEWAY, "RFC 9112 6.1", "There is a framing field where there is no content.";
}

impl Refusal {
    /// Whether it leaves open where the message ends. Then the connection must be closed, and nothing after the message may be
    /// read. The head of a message that is refused is left in its buffer, so an HTTP/1.1 connection ends with any refusal; for
    /// a stream of HTTP/2 this is false, and the connection goes on.
    pub fn closes(self) -> bool {
        !matches!(
            self,
            Refusal::Expectation
                | Refusal::TargetTooLong
                | Refusal::TargetByte
                | Refusal::TargetEscape
                | Refusal::TargetForm
                | Refusal::Scheme
                | Refusal::ConnectionOption
                | Refusal::HostMissing
                | Refusal::HostRepeated
                | Refusal::HostInvalid
                | Refusal::HostDiffers
                | Refusal::Userinfo
                | Refusal::Http2ConnectionField
                | Refusal::Http2Te
                | Refusal::Http2Blank
                | Refusal::Http2Path
                | Refusal::Http2Length
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.section())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_rule_has_a_sentence_of_its_own_and_an_error_status() {
        let texts: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.text()).collect();
        assert_eq!(Refusal::ALL.len(), texts.len());
        for refusal in Refusal::ALL {
            assert!(refusal.text().ends_with('.'), "{refusal:?}");
            assert!(refusal.section().starts_with("RFC "), "{refusal:?}");
            assert!(refusal.status().as_u16() >= 400, "{refusal:?}");
        }
    }

    #[test]
    fn whatever_breaks_the_framing_closes() {
        for refusal in [
            Refusal::LengthAndCoding,
            Refusal::LengthRepeated,
            Refusal::CodingUnknown,
            Refusal::BareLf,
            Refusal::ChunkSize,
        ] {
            assert!(refusal.closes(), "{refusal:?}");
        }
        assert!(!Refusal::Expectation.closes());
    }
}
