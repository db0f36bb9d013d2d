//! The receiver's side of the PROXY protocol, versions 1 and 2: who the client of a connection is, said by the proxy before us.
//!
//! The specification is HAProxy's doc/proxy-protocol.txt (2020/03/05); sections below are sections of it. Bytes in, addresses out: no
//! sockets and no time. Whether a peer is trusted to say such things, and how long it may take, is for the caller to decide, and the
//! header is never guessed at: ask only where one must come (section 2).
//!
//! Strict, as a header that two receivers could read in two ways hides who is there. Of TLVs only the checksum is read.
//!
//! ```
//! # use balancer::proxy_protocol::{Header, Step, parse};
//! let received = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n\x16\x03\x01";
//! let Step::Done { header, len } = parse(received)? else { panic!("it is whole") };
//! assert_eq!(b"\x16\x03\x01", &received[len..]);
//! assert_eq!(
//!     Header::Proxied {
//!         source: "192.0.2.1:56324".parse().unwrap(),
//!         destination: "192.0.2.2:443".parse().unwrap(),
//!     },
//!     header
//! );
//! # Ok::<(), balancer::proxy_protocol::Malformed>(())
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The most bytes of a header that are taken: the fixed part, the addresses and the TLVs of version 2. A line of version 1 is shorter
/// anyway ([`LINE_BYTES_MAX`]). Senders keep below 536 bytes (section 2), but a client certificate's name has room here.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// The most bytes of a version 1 line, CR LF among them (section 2.1).
pub const LINE_BYTES_MAX: usize = 107;

/// What version 1 begins with (section 2.1).
const LINE_START: &[u8] = b"PROXY ";
/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length (section 2.2).
const FIXED_BYTES: usize = 16;
/// Type and length of a TLV (section 2.2).
const TLV_START_BYTES: usize = 3;
/// `PP2_TYPE_CRC32C` (section 2.2.3).
const TYPE_CRC32C: u8 = 0x03;
/// The bytes of a checksum.
const CRC32C_BYTES: usize = 4;
/// The longest address in a line: eight groups of four digits (section 2.1). A longer one, with its last 32 bits in dots, would be
/// taken by `inet_pton`, but `inet_ntop` writes none and two of them do not fit in a line.
const ADDRESS_BYTES_MAX: usize = 39;

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is valid so far, and more bytes are needed.
    More,
    /// It is whole.
    Done {
        /// What it says.
        header: Header,
        /// How many bytes it had. Those behind are the client's.
        len: usize,
    },
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Nothing about addresses: those of the connection itself are the right ones. `UNKNOWN` in version 1 (section 2.1); in version 2
    /// the command LOCAL, such as with the proxy's own health checks, and the family `AF_UNSPEC` (section 2.2).
    Local,
    /// The connection is forwarded over TCP. Both addresses are of the same family; one of IPv4 mapped to IPv6 is left as it came.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

macro_rules! malformed {
    ($($(#[doc = $doc:literal])+ $variant:ident = $section:literal, $text:literal;)*) => {
        /// A rule that a header breaks. The list is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Malformed {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Malformed {
            /// Every one, for the labels of a metric.
            pub const ALL: &'static [Malformed] = &[$(Malformed::$variant),*];

            /// Where the rule stands in the specification.
            pub fn section(self) -> &'static str {
                match self {
                    $(Malformed::$variant => $section,)*
                }
            }

            /// One short sentence.
            pub fn text(self) -> &'static str {
                match self {
                    $(Malformed::$variant => $text,)*
                }
            }

            /// Its name, for logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Malformed::$variant => stringify!($variant),)*
                }
            }
        }
    };
}

malformed! {
    /// What was received begins neither with `PROXY` and a space nor with the signature of version 2.
    NotProxy = "2.2", "There is no PROXY protocol header.";

    // Version 1.
    /// A protocol other than `TCP4`, `TCP6` and `UNKNOWN`.
    LineProtocol = "2.1", "The line's protocol is none of TCP4, TCP6 and UNKNOWN.";
    /// An address that is not one of the family, or not written as `inet_pton` takes it, or is not followed by one space.
    LineAddress = "2.1", "An address in the line is malformed.";
    /// A port that is no number up to 65535, has a zero in front, or is not followed by one space.
    LinePort = "2.1", "A port in the line is malformed.";
    /// A CR or LF that is not part of CR LF, or something else where CR LF must be.
    LineEnd = "2.1", "The line does not end in CR LF.";
    /// No CR LF within [`LINE_BYTES_MAX`] bytes.
    LineTooLong = "2.1", "The line is too long.";

    // Version 2.
    /// A version other than 2 behind the signature.
    Version = "2.2", "The header's version is not 2.";
    /// A command other than LOCAL and PROXY.
    Command = "2.2", "The header's command is neither LOCAL nor PROXY.";
    /// An address family that the specification has not.
    Family = "2.2", "The header's address family does not exist.";
    /// A transport that the specification has not.
    Transport = "2.2", "The header's transport protocol does not exist.";
    /// A family and a transport that are not taken here: UDP, UNIX sockets, and addresses without a transport.
    Unsupported = "2.2", "The header forwards something other than TCP over IPv4 or IPv6.";
    /// A length in which the family's addresses have no room.
    TooShort = "2.2", "The header is shorter than its addresses.";
    /// A length beyond [`HEADER_BYTES_MAX`].
    TooLong = "2.2", "The header is too long.";
    /// A TLV that does not end where the header ends or the next TLV begins.
    Tlv = "2.2", "A TLV does not fit into the header.";
    /// A checksum that has not 4 bytes.
    ChecksumLength = "2.2.3", "The checksum is not 4 bytes long.";
    /// A second checksum. It could not be told which of the two is taken as zeros by the other.
    ChecksumRepeated = "2.2.3", "There is more than one checksum.";
    /// A checksum that is not the header's.
    Checksum = "2.2.3", "The checksum is wrong.";
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (PROXY protocol {})", self.text(), self.section())
    }
}

impl std::error::Error for Malformed {}

/// Reads the header at the beginning of `bytes`, which are all that was received so far. [`Step::More`] never comes of
/// [`HEADER_BYTES_MAX`] bytes or more.
///
/// # Errors
///
/// [`Malformed`] says which rule is broken, as soon as no further bytes could mend it. The connection must be closed (sections 2.1
/// and 2.2). More bytes behind do not change the answer, and neither does the way in which they arrive.
pub fn parse(bytes: &[u8]) -> Result<Step, Malformed> {
    match read(bytes) {
        Ok((header, len)) => Ok(Step::Done { header, len }),
        Err(Stop::More) => Ok(Step::More),
        Err(Stop::Malformed(malformed)) => Err(malformed),
    }
}

/// Writes a header of version 2 that forwards TCP (section 2.2), without TLVs: 28 bytes for IPv4, 52 bytes for IPv6. If the addresses
/// are not of the same family, that of IPv4 is mapped to IPv6 (RFC 4291, 2.5.5.2). A scope and a flow label are not sent.
pub fn write_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&to_v6(source).octets());
            out.extend_from_slice(&to_v6(destination).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Why there is no header yet.
enum Stop {
    More,
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Stop {
        Stop::Malformed(malformed)
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// How bytes compare with others that they should begin with.
enum Beginning<'a> {
    /// They begin with all of them, and these are behind.
    Whole(&'a [u8]),
    /// They end within them.
    Part,
    Different,
}

fn beginning<'a>(bytes: &'a [u8], expected: &[u8]) -> Beginning<'a> {
    match bytes.strip_prefix(expected) {
        Some(rest) => Beginning::Whole(rest),
        None if expected.starts_with(bytes) => Beginning::Part,
        None => Beginning::Different,
    }
}

fn read(bytes: &[u8]) -> Result<(Header, usize), Stop> {
    let (header, rest) = match beginning(bytes, SIGNATURE) {
        Beginning::Whole(rest) => return read_v2(bytes, rest),
        Beginning::Part => return Err(Stop::More),
        Beginning::Different => match beginning(bytes, LINE_START) {
            Beginning::Whole(rest) => read_line(bytes, rest)?,
            Beginning::Part => return Err(Stop::More),
            Beginning::Different => return Err(Malformed::NotProxy.into()),
        },
    };
    Ok((header, bytes.len() - rest.len()))
}

/// Reads a line of version 1 from its protocol on; gives what is behind.
fn read_line<'a>(bytes: &'a [u8], rest: &'a [u8]) -> Result<(Header, &'a [u8]), Stop> {
    let mut is_part = false;
    for (protocol, family) in [
        (b"TCP4 ".as_slice(), Some(Family::V4)),
        (b"TCP6 ", Some(Family::V6)),
        // What is behind must be told from a longer word, so it is looked at there.
        (b"UNKNOWN", None),
    ] {
        match (beginning(rest, protocol), family) {
            (Beginning::Whole(rest), Some(family)) => return read_tcp(rest, family),
            (Beginning::Whole(rest), None) => return read_unknown(bytes, rest),
            (Beginning::Part, _) => is_part = true,
            (Beginning::Different, _) => {}
        }
    }
    Err(match is_part {
        true => Stop::More,
        false => Malformed::LineProtocol.into(),
    })
}

/// What is between `UNKNOWN` and the line's end is ignored.
fn read_unknown<'a>(bytes: &'a [u8], rest: &'a [u8]) -> Result<(Header, &'a [u8]), Stop> {
    if !matches!(rest, [] | [b' ' | b'\r', ..]) {
        return Err(Malformed::LineProtocol.into());
    }
    // CR is the line's last byte but one.
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX - 1)];
    let Some(end) = within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return Err(match within.len() < LINE_BYTES_MAX - 1 {
            true => Stop::More,
            false => Malformed::LineTooLong.into(),
        });
    };
    Ok((Header::Local, read_crlf(&bytes[end..])?))
}

fn read_tcp(rest: &[u8], family: Family) -> Result<(Header, &[u8]), Stop> {
    let (source, rest) = read_address(rest, family)?;
    let (destination, rest) = read_address(rest, family)?;
    let (source_port, rest) = read_port(rest)?;
    let rest = read_space(rest, Malformed::LinePort)?;
    let (destination_port, rest) = read_port(rest)?;
    let rest = read_crlf(rest)?;
    let header = Header::Proxied {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Ok((header, rest))
}

/// Reads an address and the space behind it.
fn read_address(rest: &[u8], family: Family) -> Result<(IpAddr, &[u8]), Stop> {
    let is_address = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let len = rest.iter().take_while(is_address).count();
    let (text, behind) = rest.split_at(len);
    if behind.is_empty() {
        let is_beginning = match family {
            Family::V4 => missing_of_v4(text).is_some(),
            Family::V6 => is_beginning_of_v6(text),
        };
        return Err(match is_beginning {
            true => Stop::More,
            false => Malformed::LineAddress.into(),
        });
    }
    let address = (len <= ADDRESS_BYTES_MAX)
        .then(|| match family {
            Family::V4 => parsed::<Ipv4Addr>(text).map(IpAddr::V4),
            Family::V6 => parsed::<Ipv6Addr>(text).map(IpAddr::V6),
        })
        .flatten()
        .ok_or(Malformed::LineAddress)?;
    Ok((address, read_space(behind, Malformed::LineAddress)?))
}

/// Reads a port, of which the first byte that is no digit is the end.
fn read_port(rest: &[u8]) -> Result<(u16, &[u8]), Stop> {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, behind) = rest.split_at(len);
    match parsed(digits) {
        // Nothing yet. The beginning of a port is one itself, so whatever else is none cannot become one.
        None if rest.is_empty() => Err(Stop::More),
        Some(port) if !has_leading_zero(digits) => match behind {
            [] => Err(Stop::More),
            _ => Ok((port, behind)),
        },
        _ => Err(Malformed::LinePort.into()),
    }
}

fn read_space(rest: &[u8], otherwise: Malformed) -> Result<&[u8], Stop> {
    match rest {
        [b' ', rest @ ..] => Ok(rest),
        [] => Err(Stop::More),
        _ => Err(otherwise.into()),
    }
}

fn read_crlf(rest: &[u8]) -> Result<&[u8], Stop> {
    match rest {
        [b'\r', b'\n', rest @ ..] => Ok(rest),
        [] | [b'\r'] => Err(Stop::More),
        _ => Err(Malformed::LineEnd.into()),
    }
}

/// What `text` stands for. The standard library takes for addresses what `inet_pton` takes: no leading zeros in IPv4, dots at the
/// end of IPv6.
fn parsed<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn has_leading_zero(digits: &[u8]) -> bool {
    matches!(digits, [b'0', _, ..])
}

/// With how many bytes, at least, the beginning of an IPv4 address becomes one; `None` if with none at all.
fn missing_of_v4(text: &[u8]) -> Option<usize> {
    let is_octet = |part: &[u8]| {
        let is_number = part.iter().all(u8::is_ascii_digit);
        is_number && !has_leading_zero(part) && parsed::<u8>(part).is_some()
    };
    let (mut parts, mut last) = (0, text);
    for part in text.split(|byte| *byte == b'.') {
        // What a dot is behind of is done.
        if parts > 0 && !is_octet(last) {
            return None;
        }
        (parts, last) = (parts + 1, part);
    }
    let missing = 2 * 4_usize.checked_sub(parts)?;
    match last {
        [] => Some(missing + 1),
        octet => is_octet(octet).then_some(missing),
    }
}

/// Whether an IPv6 address can begin so that is not longer than [`ADDRESS_BYTES_MAX`].
fn is_beginning_of_v6(text: &[u8]) -> bool {
    let is_group = |part: &[u8]| part.len() <= 4 && part.iter().all(u8::is_ascii_hexdigit);
    // Groups of 16 bits that a colon is behind of, and whether some are left out for a double colon.
    let (mut groups, mut is_elided) = (0, false);
    let mut parts = text.split(|byte| *byte == b':');
    let mut last = parts.next().unwrap_or_default();
    for (index, part) in parts.enumerate() {
        match last {
            // One colon in front is half of a double colon.
            [] if index == 0 && part.is_empty() => {}
            [] if index > 0 && !is_elided => is_elided = true,
            [] => return false,
            group if is_group(group) => groups += 1,
            _ => return false,
        }
        last = part;
    }
    let groups_max = match is_elided {
        // A double colon stands for one group or more.
        true => 7,
        false => 8,
    };
    match last {
        [] if is_elided && text.ends_with(b"::") => groups <= groups_max,
        group if is_group(group) => groups < groups_max,
        dotted => {
            let has_room = match is_elided {
                true => groups + 2 <= groups_max,
                false => groups + 2 == groups_max,
            };
            let missing = missing_of_v4(dotted).filter(|_| dotted.contains(&b'.'));
            has_room && missing.is_some_and(|missing| text.len() + missing <= ADDRESS_BYTES_MAX)
        }
    }
}

/// Reads a header of version 2; `rest` is what is behind the signature.
fn read_v2(bytes: &[u8], mut rest: &[u8]) -> Result<(Header, usize), Stop> {
    let [version_command] = take(&mut rest)?;
    let is_local = match (version_command >> 4, version_command & 0xf) {
        (2, 0) => true,
        (2, 1) => false,
        (2, _) => return Err(Malformed::Command.into()),
        _ => return Err(Malformed::Version.into()),
    };
    let [family_transport] = take(&mut rest)?;
    // LOCAL has its family ignored, whatever it is.
    let family = match is_local {
        true => None,
        false => family(family_transport)?,
    };
    let [high] = take(&mut rest)?;
    check_len(high, 0)?;
    let [low] = take(&mut rest)?;
    let len = check_len(high, low)?;
    let Some(family) = family else {
        // Nothing says how long addresses would be, so nothing says where TLVs would begin.
        return match bytes.len() < len {
            true => Err(Stop::More),
            false => Ok((Header::Local, len)),
        };
    };
    let tlvs_at = FIXED_BYTES
        + match family {
            Family::V4 => 2 * 4 + 2 * 2,
            Family::V6 => 2 * 16 + 2 * 2,
        };
    let tlvs_len = len.checked_sub(tlvs_at).ok_or(Malformed::TooShort)?;
    if !fits(0, tlvs_len) {
        return Err(Malformed::Tlv.into());
    }
    let (source, destination): (IpAddr, IpAddr) = match family {
        Family::V4 => (take::<4>(&mut rest)?.into(), take::<4>(&mut rest)?.into()),
        Family::V6 => (take::<16>(&mut rest)?.into(), take::<16>(&mut rest)?.into()),
    };
    let source_port = u16::from_be_bytes(take(&mut rest)?);
    let destination_port = u16::from_be_bytes(take(&mut rest)?);
    let checksum_at = walk_tlvs(bytes, tlvs_at, len)?;
    let whole = bytes.get(..len).ok_or(Stop::More)?;
    if checksum_at.is_some_and(|at| !is_checksum(whole, at)) {
        return Err(Malformed::Checksum.into());
    }
    let header = Header::Proxied {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Ok((header, len))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Stop> {
    let (taken, behind) = rest.split_first_chunk().ok_or(Stop::More)?;
    *rest = behind;
    Ok(*taken)
}

/// The family of addresses that are forwarded, if there are any.
fn family(family_transport: u8) -> Result<Option<Family>, Malformed> {
    match (family_transport >> 4, family_transport & 0xf) {
        (4.., _) => Err(Malformed::Family),
        (_, 3..) => Err(Malformed::Transport),
        (0, _) => Ok(None),
        (1, 1) => Ok(Some(Family::V4)),
        (2, 1) => Ok(Some(Family::V6)),
        _ => Err(Malformed::Unsupported),
    }
}

/// How long the whole header is.
fn check_len(high: u8, low: u8) -> Result<usize, Malformed> {
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    (len <= HEADER_BYTES_MAX)
        .then_some(len)
        .ok_or(Malformed::TooLong)
}

/// Whether `len` of `room` bytes leave either nothing or enough for another TLV.
fn fits(len: usize, room: usize) -> bool {
    len == room || len + TLV_START_BYTES <= room
}

/// Walks the TLVs that fill a header from `at` to `end`, as far as they were received. Gives where a checksum is.
fn walk_tlvs(bytes: &[u8], mut at: usize, end: usize) -> Result<Option<usize>, Stop> {
    let mut checksum_at = None;
    while at < end {
        let mut rest = bytes.get(at..).ok_or(Stop::More)?;
        // There is room for the three bytes: what comes before was seen to leave it.
        at += TLV_START_BYTES;
        let room = end.saturating_sub(at);
        let [kind] = take(&mut rest)?;
        let is_checksum = kind == TYPE_CRC32C;
        if is_checksum && checksum_at.replace(at).is_some() {
            return Err(Malformed::ChecksumRepeated.into());
        }
        if is_checksum && !fits(CRC32C_BYTES, room) {
            return Err(Malformed::ChecksumLength.into());
        }
        let [high] = take(&mut rest)?;
        let len_min = usize::from(u16::from_be_bytes([high, 0]));
        if is_checksum && len_min > 0 {
            return Err(Malformed::ChecksumLength.into());
        }
        if len_min > room {
            return Err(Malformed::Tlv.into());
        }
        let [low] = take(&mut rest)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if is_checksum && len != CRC32C_BYTES {
            return Err(Malformed::ChecksumLength.into());
        }
        if !fits(len, room) {
            return Err(Malformed::Tlv.into());
        }
        at += len;
    }
    Ok(checksum_at)
}

/// Whether the checksum at `at` is that of the header, with zeros in its own place (section 2.2.3). It is in network byte order.
fn is_checksum(header: &[u8], at: usize) -> bool {
    let (before, rest) = header.split_at(at.min(header.len()));
    let Some((checksum, behind)) = rest.split_first_chunk::<CRC32C_BYTES>() else {
        return false;
    };
    let parts = [before, &[0; CRC32C_BYTES], behind];
    crc32c(parts) == u32::from_be_bytes(*checksum)
}

/// CRC32c (RFC 4960, appendix B) of `parts` in a row.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let bytes = parts.into_iter().flatten();
    !bytes.fold(u32::MAX, |crc, byte| {
        CRC32C[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

static CRC32C: [u32; 256] = crc32c_table();

const fn crc32c_table() -> [u32; 256] {
    // 0x1edc6f41, its bits reversed.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn done(header: Header, len: usize) -> Result<Step, Malformed> {
        Ok(Step::Done { header, len })
    }

    /// A header of version 2.
    fn binary(version_command: u8, family_transport: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[version_command, family_transport], &len, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb];

    fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
        binary(0x21, 0x11, &[&V4, tlvs].concat())
    }

    /// One that a checksum was written into elsewhere.
    fn summed() -> Vec<u8> {
        with_tlvs(&[4, 0, 1, 0xff, 3, 0, 4, 0xd4, 0xc3, 0x40, 0x7c])
    }

    fn valid() -> Vec<(Vec<u8>, Header)> {
        let v4 = proxied("192.0.2.1:56324", "192.0.2.2:443");
        let v6 = proxied("[2001:db8::1]:1", "[::]:0");
        let mut valid: Vec<(Vec<u8>, Header)> = [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", v4),
            (
                "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
                proxied("255.255.255.255:65535", "0.0.0.0:0"),
            ),
            ("PROXY TCP6 2001:db8::1 :: 1 0\r\n", v6),
            (
                "PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 0:0:0:0:0:0:0.0.0.0 1 0\r\n",
                v6,
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.1 1:2:3:4:5:6:7:: 1 2\r\n",
                proxied("[::ffff:192.0.2.1]:1", "[1:2:3:4:5:6:7:0]:2"),
            ),
            ("PROXY UNKNOWN\r\n", Header::Local),
            ("PROXY UNKNOWN \r\n", Header::Local),
            ("PROXY UNKNOWN is ignored \u{e4} \r\n", Header::Local),
        ]
        .map(|(line, header)| (line.as_bytes().to_vec(), header))
        .to_vec();
        let v6_block = [
            &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0; 16].as_slice(),
            &[0, 1, 0, 0],
        ]
        .concat();
        valid.extend([
            (with_tlvs(b""), v4),
            (binary(0x21, 0x21, &v6_block), v6),
            (with_tlvs(b"\x04\0\0"), v4),
            (with_tlvs(b"\x04\0\x03\x03\0\x04\xea\0\0"), v4),
            (summed(), v4),
            (binary(0x20, 0x00, b""), Header::Local),
            (binary(0x20, 0x11, &V4), Header::Local),
            (binary(0x20, 0xff, b"?"), Header::Local),
            (binary(0x21, 0x00, b"?"), Header::Local),
            (binary(0x21, 0x02, b""), Header::Local),
            (
                binary(0x20, 0x00, &[0; HEADER_BYTES_MAX - FIXED_BYTES]),
                Header::Local,
            ),
        ]);
        valid
    }

    #[test]
    fn a_valid_header_is_read_and_what_is_behind_is_left() {
        for (bytes, header) in valid() {
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(done(header, bytes.len()), parse(&bytes), "{text:?}");
            let behind = [&bytes[..], b"\r\nPROXY \x16\x03"].concat();
            assert_eq!(done(header, bytes.len()), parse(&behind), "{text:?}");
        }
    }

    #[test]
    fn a_beginning_of_a_valid_header_asks_for_more() {
        for (bytes, _) in valid() {
            for len in 0..bytes.len() {
                let text = String::from_utf8_lossy(&bytes[..len]);
                assert_eq!(Ok(Step::More), parse(&bytes[..len]), "{text:?}");
            }
        }
    }

    /// Each is refused at its last byte and not before.
    #[test]
    fn a_line_is_refused_as_soon_as_nothing_can_mend_it() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(92));
        for (line, expected) in [
            ("G", Malformed::NotProxy),
            ("\n", Malformed::NotProxy),
            ("\r\n\r\n\r", Malformed::NotProxy),
            ("PROXY\t", Malformed::NotProxy),
            ("PROXY\r", Malformed::NotProxy),
            ("PROXy", Malformed::NotProxy),
            ("PROXY  ", Malformed::LineProtocol),
            ("PROXY t", Malformed::LineProtocol),
            ("PROXY TCP5", Malformed::LineProtocol),
            ("PROXY TCP4\t", Malformed::LineProtocol),
            ("PROXY UD", Malformed::LineProtocol),
            ("PROXY UNKNOWNS", Malformed::LineProtocol),
            ("PROXY UNKNOWN\n", Malformed::LineProtocol),
            ("PROXY TCP4  ", Malformed::LineAddress),
            ("PROXY TCP4 a", Malformed::LineAddress),
            ("PROXY TCP4 256", Malformed::LineAddress),
            ("PROXY TCP4 01", Malformed::LineAddress),
            ("PROXY TCP4 1..", Malformed::LineAddress),
            ("PROXY TCP4 1.2.3 ", Malformed::LineAddress),
            ("PROXY TCP4 1.2.3.4.", Malformed::LineAddress),
            ("PROXY TCP4 1.2.3.4\t", Malformed::LineAddress),
            ("PROXY TCP4 1.2.3.4:", Malformed::LineAddress),
            ("PROXY TCP4 1.2.3.4  ", Malformed::LineAddress),
            ("PROXY TCP4 1.2.3.4 1.2.3.4\r", Malformed::LineAddress),
            ("PROXY TCP6 1.", Malformed::LineAddress),
            ("PROXY TCP6 :1", Malformed::LineAddress),
            ("PROXY TCP6 :::", Malformed::LineAddress),
            ("PROXY TCP6 1::2::", Malformed::LineAddress),
            ("PROXY TCP6 12345", Malformed::LineAddress),
            ("PROXY TCP6 1:2:3:4:5:6:7:8:", Malformed::LineAddress),
            ("PROXY TCP6 1:2:3:4:5:6:7 ", Malformed::LineAddress),
            ("PROXY TCP6 1::2:3:4:5:6:7:", Malformed::LineAddress),
            ("PROXY TCP6 ::g", Malformed::LineAddress),
            ("PROXY TCP6 fe80::1%", Malformed::LineAddress),
            ("PROXY TCP6 [", Malformed::LineAddress),
            ("PROXY TCP6 1:2:3:4:5:6:1.2.3.4:", Malformed::LineAddress),
            ("PROXY TCP6 1:2:3:4:5:6::1.", Malformed::LineAddress),
            ("PROXY TCP6 1:2:3:4:5::1.2.3.4.", Malformed::LineAddress),
            ("PROXY TCP6 ::1.2.3.4 ::1.2.3.04", Malformed::LineAddress),
            (
                "PROXY TCP6 0000:0000:0000:0000:0000:ffff:255.25",
                Malformed::LineAddress,
            ),
            ("PROXY TCP4 1.2.3.4 1.2.3.4  ", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 00", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 65536", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 -", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1  ", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 01", Malformed::LinePort),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 ", Malformed::LineEnd),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", Malformed::LineEnd),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r", Malformed::LineEnd),
            ("PROXY UNKNOWN\r\r", Malformed::LineEnd),
            ("PROXY UNKNOWN a\n", Malformed::LineEnd),
            ("PROXY UNKNOWN a\rb", Malformed::LineEnd),
            (&long, Malformed::LineTooLong),
        ] {
            refused_at_the_last(line.as_bytes(), expected);
        }
        let just = format!("{}\r\n", &long[..LINE_BYTES_MAX - 2]);
        assert_eq!(done(Header::Local, LINE_BYTES_MAX), parse(just.as_bytes()));
        let too_long = format!("{long}\r\n");
        assert_eq!(Err(Malformed::LineTooLong), parse(too_long.as_bytes()));
        let address = "0000:0000:0000:0000:0000:ffff:255.255.255.255";
        let too_long = format!("PROXY TCP6 {address} :: 1 2\r\n");
        assert_eq!(Err(Malformed::LineAddress), parse(too_long.as_bytes()));
    }

    fn refused_at_the_last(bytes: &[u8], expected: Malformed) {
        let text = String::from_utf8_lossy(bytes);
        let before = &bytes[..bytes.len() - 1];
        assert_eq!(Ok(Step::More), parse(before), "{text:?}");
        assert_eq!(Err(expected), parse(bytes), "{text:?}");
        let behind = [bytes, b" 1.2.3.4 1 2\r\n"].concat();
        assert_eq!(Err(expected), parse(&behind), "{text:?}");
    }

    /// Each is refused at its last byte and not before, too.
    #[test]
    fn a_binary_header_is_refused_as_soon_as_nothing_can_mend_it() {
        let tlv = |len: u16, tlvs: &[u8]| {
            let mut bytes = with_tlvs(tlvs);
            bytes[14..16].copy_from_slice(&(12 + len).to_be_bytes());
            bytes
        };
        for (fixed, expected) in [
            (&[0x11][..], Malformed::Version),
            (&[0x30], Malformed::Version),
            (&[0x22], Malformed::Command),
            (&[0x21, 0x40], Malformed::Family),
            (&[0x21, 0xf3], Malformed::Family),
            (&[0x21, 0x03], Malformed::Transport),
            (&[0x21, 0x1f], Malformed::Transport),
            (&[0x21, 0x10], Malformed::Unsupported),
            (&[0x21, 0x12], Malformed::Unsupported),
            (&[0x21, 0x22], Malformed::Unsupported),
            (&[0x21, 0x31], Malformed::Unsupported),
            (&[0x21, 0x32], Malformed::Unsupported),
            (&[0x21, 0x11, 0, 11], Malformed::TooShort),
            (&[0x21, 0x21, 0, 35], Malformed::TooShort),
            (&[0x21, 0x11, 0, 14], Malformed::Tlv),
            (&[0x21, 0x11, 0x10], Malformed::TooLong),
            (&[0x20, 0x00, 0x0f, 0xf1], Malformed::TooLong),
        ] {
            refused_at_the_last(&[SIGNATURE, fixed].concat(), expected);
        }
        for (bytes, expected) in [
            (tlv(3, &[4, 1]), Malformed::Tlv),
            (tlv(3, &[4, 0, 1]), Malformed::Tlv),
            (tlv(5, &[4, 0, 1]), Malformed::Tlv),
            (tlv(6, &[4, 0, 0, 4, 0, 1]), Malformed::Tlv),
            (tlv(3, &[3]), Malformed::ChecksumLength),
            (tlv(8, &[3]), Malformed::ChecksumLength),
            (tlv(400, &[3, 1]), Malformed::ChecksumLength),
            (tlv(10, &[3, 0, 5]), Malformed::ChecksumLength),
            (
                tlv(14, &[3, 0, 4, 0, 0, 0, 0, 3]),
                Malformed::ChecksumRepeated,
            ),
            (tlv(7, &[3, 0, 4, 0, 0, 0, 0]), Malformed::Checksum),
        ] {
            refused_at_the_last(&bytes, expected);
        }
    }

    #[test]
    fn a_checksum_covers_every_byte() {
        assert_eq!(0xe306_9283, crc32c([b"1234", b"", b"56789"]));
        let summed = summed();
        // Its own type aside: of another TLV nothing is asked.
        let type_at = summed.len() - CRC32C_BYTES - TLV_START_BYTES;
        for at in (0..summed.len()).filter(|at| *at != type_at) {
            let mut bytes = summed.clone();
            bytes[at] ^= 0x40;
            let is_taken = matches!(parse(&bytes), Ok(Step::Done { .. }));
            assert!(!is_taken, "{at}");
        }
    }

    /// What a beginning of an address can be completed with, if with anything.
    const ENDS: [&str; 21] = [
        "",
        "0",
        ":",
        "::",
        ":0",
        "0:0",
        ":0:0",
        ":0:0:0",
        ":0:0:0:0",
        ":0:0:0:0:0",
        ":0:0:0:0:0:0",
        ":0:0:0:0:0:0:0",
        "0.0.0",
        "0.0",
        ".0",
        ".0.0",
        ".0.0.0",
        "0.0.0.0",
        ":0.0.0.0",
        "::0.0.0.0",
        "0::",
    ];

    fn can_become<T: FromStr>(text: &str) -> bool {
        ENDS.iter().any(|end| {
            let whole = format!("{text}{end}");
            whole.len() <= ADDRESS_BYTES_MAX && whole.parse::<T>().is_ok()
        })
    }

    fn check_beginning(text: &str) {
        let bytes = text.as_bytes();
        let (v4, v6) = (can_become::<Ipv4Addr>(text), can_become::<Ipv6Addr>(text));
        assert_eq!(v4, missing_of_v4(bytes).is_some(), "{text:?}");
        assert_eq!(v6, is_beginning_of_v6(bytes), "{text:?}");
    }

    #[test]
    fn every_short_text_is_a_beginning_of_an_address_or_is_not() {
        let mut texts = vec![String::new()];
        for _ in 0..7 {
            texts = texts
                .iter()
                .flat_map(|text| ["0", "2", "6", ":", "."].map(|more| format!("{text}{more}")))
                .inspect(|text| check_beginning(text))
                .collect();
        }
    }

    #[test]
    fn every_rule_has_a_sentence_of_its_own() {
        let texts: HashSet<_> = Malformed::ALL.iter().map(|rule| rule.text()).collect();
        assert_eq!(Malformed::ALL.len(), texts.len());
        assert!(texts.iter().all(|text| text.ends_with('.')));
        assert_eq!(
            "The checksum is wrong. (PROXY protocol 2.2.3)",
            Malformed::Checksum.to_string()
        );
    }

    #[test]
    fn addresses_of_two_families_are_written_as_ipv6() {
        let mut out = b"before".to_vec();
        write_v2(
            "192.0.2.1:1".parse().unwrap(),
            "[::1]:2".parse().unwrap(),
            &mut out,
        );
        assert_eq!(
            done(proxied("[::ffff:192.0.2.1]:1", "[::1]:2"), 52),
            parse(&out[6..])
        );
    }

    fn header() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(a, p, b, q)| {
            let (a, b) = (IpAddr::from(a), IpAddr::from(b));
            (SocketAddr::new(a, p), SocketAddr::new(b, q))
        });
        // Zeros make double colons.
        let segments = || prop::array::uniform8(prop_oneof![Just(0), any::<u16>()]);
        let v6 = (segments(), any::<u16>(), segments(), any::<u16>()).prop_map(|(a, p, b, q)| {
            let (a, b) = (IpAddr::from(a), IpAddr::from(b));
            (SocketAddr::new(a, p), SocketAddr::new(b, q))
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back((source, destination) in header(), behind: Vec<u8>) {
            let expected = Header::Proxied { source, destination };
            let mut bytes = Vec::new();
            write_v2(source, destination, &mut bytes);
            let len = bytes.len();
            bytes.extend(behind);
            prop_assert_eq!(done(expected, len), parse(&bytes));
        }

        #[test]
        fn a_line_is_read_back_however_it_is_cut((source, destination) in header()) {
            let line = format!(
                "PROXY TCP{} {} {} {} {}\r\n",
                if source.is_ipv4() { 4 } else { 6 },
                source.ip(), destination.ip(), source.port(), destination.port()
            );
            for cut in 0..line.len() {
                prop_assert_eq!(Ok(Step::More), parse(&line.as_bytes()[..cut]));
            }
            let expected = Header::Proxied { source, destination };
            prop_assert_eq!(done(expected, line.len()), parse(line.as_bytes()));
        }

        #[test]
        fn a_text_is_a_beginning_of_an_address_or_is_not(
            text in "([0-9a-fA-F]{1,4}:{1,2}){0,8}[0-9a-f]{0,5}", dotted in "([0-9]{1,3}\\.){0,4}[0-9]{0,3}"
        ) {
            for text in [&text, &dotted, &format!("{text}{dotted}"), &format!("::{text}")] {
                check_beginning(text);
            }
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[SIGNATURE, &bytes].concat());
            let _ = parse(&[LINE_START, &bytes].concat());
            let _ = parse(&with_tlvs(&bytes));
        }
    }
}
