//! The field names that mean something to the edge, each recognised once, while a head is read.
//!
//! A name becomes a number of one byte, so that whoever asks later compares bytes instead of names.

/// Where in the table a name's place is. The factors were searched for until no two names shared a place; the table is built
/// by the compiler, which refuses to if two ever do.
const FACTORS: [u32; 4] = [253, 207, 171, 258];

macro_rules! known {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A field name that is known here, in whatever case it was written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any other name.
            Other,
        }

        impl Known {
            /// Every name that is known.
            pub const ALL: &'static [Known] = &[$(Known::$variant),*];
            const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

known! {
    Host = "host",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    Http2Settings = "http2-settings",
    Expect = "expect",
    ContentType = "content-type",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    Authorization = "authorization",
    IdempotencyKey = "idempotency-key",
    Date = "date",
    Server = "server",
    Location = "location",
    CacheControl = "cache-control",
    AltSvc = "alt-svc",
    SecWebsocketKey = "sec-websocket-key",
    SecWebsocketVersion = "sec-websocket-version",
    SecWebsocketProtocol = "sec-websocket-protocol",
    SecWebsocketExtensions = "sec-websocket-extensions",
    SecWebsocketAccept = "sec-websocket-accept",
    Tracestate = "tracestate",
    Forwarded = "forwarded",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XForwardedProtocol = "x-forwarded-protocol",
    XForwardedScheme = "x-forwarded-scheme",
    XForwardedServer = "x-forwarded-server",
    XForwardedSsl = "x-forwarded-ssl",
    XForwardedPrefix = "x-forwarded-prefix",
    XRealIp = "x-real-ip",
    XClientIp = "x-client-ip",
    XClusterClientIp = "x-cluster-client-ip",
    XOriginalHost = "x-original-host",
    TrueClientIp = "true-client-ip",
    Via = "via",
    XRequestId = "x-request-id",
    XCorrelationId = "x-correlation-id",
    Traceparent = "traceparent",
    Baggage = "baggage",
    ProxyAuthorization = "proxy-authorization",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthenticationInfo = "proxy-authentication-info",
    Traceresponse = "traceresponse",
    StrictTransportSecurity = "strict-transport-security",
    XServedBy = "x-served-by",
}

/// The length of the longest and of the shortest name.
const LENGTHS: (usize, usize) = (2, 25);
const PLACES: usize = 256;
static TABLE: [u8; PLACES] = table();

impl Known {
    /// Which one `name` is. It must be a token: then a letter's case is the bit 0x20, and nothing else differs by that bit from
    /// a letter, a digit or a hyphen.
    #[inline]
    pub fn of(name: &[u8]) -> Known {
        if name.len() < LENGTHS.0 || name.len() > LENGTHS.1 {
            return Known::Other;
        }
        let index = usize::from(TABLE[place(name)]);
        match (Known::ALL.get(index), Known::NAMES.get(index)) {
            (Some(known), Some(lower)) if is_same(name, lower.as_bytes()) => *known,
            _ => Known::Other,
        }
    }

    /// In lower case; empty for [`Known::Other`].
    pub fn name(self) -> &'static str {
        Known::NAMES.get(self as usize).copied().unwrap_or_default()
    }

    /// Whether it speaks of one connection only, and so is passed on by nobody (RFC 9110, 7.6.1). The names that `Connection`
    /// lists besides are not among them, and whoever is named there is not taken out if it is known here by name: a client must
    /// not be able to take away what the edge relies on.
    pub fn is_hop_by_hop(self) -> bool {
        self.bit() & HOP_BY_HOP != 0
    }

    /// One bit for each.
    #[inline]
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

const HOP_BY_HOP: u64 = Known::Connection.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyConnection.bit()
    | Known::Te.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit()
    | Known::Http2Settings.bit();

/// Whether `name` is `lower` but for its case.
#[inline]
fn is_same(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    if let (Some(head), Some(tail), Some(lower_head), Some(lower_tail)) = (
        name.first_chunk::<8>(),
        name.last_chunk::<8>(),
        lower.first_chunk::<8>(),
        lower.last_chunk::<8>(),
    ) {
        let folded = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk) | 0x2020_2020_2020_2020;
        let ends = folded(head) == u64::from_le_bytes(*lower_head)
            && folded(tail) == u64::from_le_bytes(*lower_tail);
        return ends
            && (name.len() <= 16
                || is_same_bytewise(&name[8..name.len() - 8], &lower[8..lower.len() - 8]));
    }
    is_same_bytewise(name, lower)
}

#[inline]
fn is_same_bytewise(name: &[u8], lower: &[u8]) -> bool {
    name.iter()
        .zip(lower)
        .all(|(byte, lower)| byte | 0x20 == *lower)
}

#[inline]
const fn place(name: &[u8]) -> usize {
    let (len, last) = (name.len(), name[name.len() - 1] | 0x20);
    let sum = len as u32 * FACTORS[0]
        + (name[0] | 0x20) as u32 * FACTORS[1]
        + (name[len * 3 / 4] | 0x20) as u32 * FACTORS[2]
        + last as u32 * FACTORS[3];
    (sum >> 3) as usize % PLACES
}

const fn table() -> [u8; PLACES] {
    assert!(
        Known::ALL.len() < 64,
        "one bit for each must fit into a word"
    );
    let mut table = [u8::MAX; PLACES];
    let mut at = 0;
    while at < Known::NAMES.len() {
        let name = Known::NAMES[at].as_bytes();
        assert!(name.len() >= LENGTHS.0 && name.len() <= LENGTHS.1);
        let place = place(name);
        assert!(
            table[place] == u8::MAX,
            "two names have one place: search for other factors"
        );
        table[place] = at as u8;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_any_case() {
        for known in Known::ALL {
            let name = known.name();
            assert_eq!(*known, Known::of(name.as_bytes()), "{name}");
            assert_eq!(
                *known,
                Known::of(name.to_ascii_uppercase().as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn what_differs_in_one_byte_is_not_known() {
        for known in Known::ALL {
            let name = known.name().as_bytes();
            for at in 0..name.len() {
                for byte in (b'!'..=b'~').filter(|byte| !byte.eq_ignore_ascii_case(&name[at])) {
                    let mut other = name.to_vec();
                    other[at] = byte;
                    assert_eq!(
                        Known::Other,
                        Known::of(&other),
                        "{}",
                        String::from_utf8_lossy(&other)
                    );
                }
            }
            assert_eq!(Known::Other, Known::of(&name[1..]));
            assert_eq!(Known::Other, Known::of(&[name, b"s"].concat()));
        }
        assert_eq!(Known::Other, Known::of(b""));
    }
}
