//! Headers of the PROXY protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::proxy_protocol::{
    HEADER_BYTES_MAX, Header, LINE_BYTES_MAX, Malformed, Step, parse, write_v2,
};

/// Headers to begin with: lines and binary ones, with what can come behind an address.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines = [
        "PROXY TCP4 192.0.2.1 255.255.255.255 0 65535\r\n",
        "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 443\r\n",
        "PROXY TCP6 1:2:3:4:5:6:7:8 1:2:3:4:5:6:1.2.3.4 1 443\r\n",
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff::1 ? \0 65536\r\nGET",
    ];
    let mut seeds: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).to_vec();
    let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
    let v6 = [0x20; 36];
    let tlvs: [&[u8]; 4] = [
        b"",
        b"\x04\0\0",
        b"\x03\0\x04sum!",
        b"\x04\0\x01a\x03\0\x04sum!\x20\0\x01b",
    ];
    for tlvs in tlvs {
        for (kind, addresses) in [(0x11, &v4[..]), (0x21, &v6[..]), (0, b"")] {
            let len = (addresses.len() + tlvs.len()) as u8;
            let fixed = [b"\r\n\r\n\0\r\nQUIT\n\x21", &[kind, 0, len][..]].concat();
            seeds.push([&fixed, addresses, tlvs, b"\x16\x03"].concat());
        }
    }
    seeds.push(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x02??".to_vec());
    seeds
}

/// Of all beginnings of `data` those that ask for more come first, all others have one answer, and that is a second reader's as well.
/// Where only the checksum is wrong it is put right, for nobody finds a right one by trying.
///
/// # Panics
///
/// If this does not hold.
pub fn check(data: &[u8]) {
    check_one(data);
    if parse(data) == Err(Malformed::Checksum) {
        check_one(&with_checksum(data));
    }
}

/// With a right checksum in its first TLV that is for one.
fn with_checksum(data: &[u8]) -> Vec<u8> {
    let number = |at: usize| usize::from(u16::from_be_bytes([data[at], data[at + 1]]));
    let len = 16 + number(14);
    let mut at = if data[13] == 0x11 { 28 } else { 52 };
    while data[at] != 3 {
        at += 3 + number(at + 1);
    }
    let mut summed = data.to_vec();
    summed[at + 3..at + 7].fill(0);
    let sum = crc32c(&summed[..len]).to_be_bytes();
    summed[at + 3..at + 7].copy_from_slice(&sum);
    assert!(matches!(parse(&summed), Ok(Step::Done { .. })));
    summed
}

fn check_one(data: &[u8]) {
    let decided =
        (0..=data.len().min(HEADER_BYTES_MAX)).find(|len| parse(&data[..*len]) != Ok(Step::More));
    let Some(decided) = decided else {
        assert!(data.len() < HEADER_BYTES_MAX, "it goes on without an end");
        assert_eq!(Ok(Step::More), parse(data));
        assert_eq!(None, any_header(data));
        return;
    };
    let answer = parse(&data[..decided]);
    for end in [
        (decided + 1).min(data.len()),
        usize::midpoint(decided, data.len()),
        data.len(),
    ] {
        assert_eq!(answer, parse(&data[..end]), "more bytes change the answer");
    }
    match answer {
        Ok(Step::Done { header, len }) => {
            assert_eq!(decided, len, "it ends elsewhere");
            assert_eq!(Some((header, len)), any_header(data));
            rewritten(header);
        }
        _ => assert_eq!(None, any_header(data)),
    }
}

/// What is written of a header must be read as the same.
fn rewritten(header: Header) {
    let Header::Proxied {
        source,
        destination,
    } = header
    else {
        return;
    };
    let mut binary = Vec::new();
    write_v2(source, destination, &mut binary);
    let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {protocol} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    for bytes in [&binary[..], line.as_bytes()] {
        let len = bytes.len();
        assert_eq!(Ok(Step::Done { header, len }), parse(bytes));
    }
}

/// The second reader's header, if there is a whole and valid one.
fn any_header(data: &[u8]) -> Option<(Header, usize)> {
    line(data).or_else(|| binary(data))
}

fn line(data: &[u8]) -> Option<(Header, usize)> {
    let within = &data[..data.len().min(LINE_BYTES_MAX)];
    let end = within.windows(2).position(|two| two == b"\r\n")?;
    let text = &within[..end];
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return None;
    }
    if text == b"PROXY UNKNOWN" || text.starts_with(b"PROXY UNKNOWN ") {
        return Some((Header::Local, end + 2));
    }
    let fields: Vec<&str> = std::str::from_utf8(text).ok()?.split(' ').collect();
    let [
        "PROXY",
        protocol,
        source,
        destination,
        source_port,
        destination_port,
    ] = fields[..]
    else {
        return None;
    };
    let ip = |text: &str| -> Option<IpAddr> {
        match protocol {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" if text.len() <= 39 => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let port = |text: &str| {
        let port: u16 = text.parse().ok()?;
        (port.to_string() == text).then_some(port)
    };
    let header = Header::Proxied {
        source: SocketAddr::new(ip(source)?, port(source_port)?),
        destination: SocketAddr::new(ip(destination)?, port(destination_port)?),
    };
    Some((header, end + 2))
}

fn binary(data: &[u8]) -> Option<(Header, usize)> {
    let number = |at: usize| -> Option<usize> {
        let high = *data.get(at)?;
        let low = *data.get(at + 1)?;
        Some(usize::from(high) * 256 + usize::from(low))
    };
    let len = 16 + number(14)?;
    if !data.starts_with(b"\r\n\r\n\0\r\nQUIT\n") || len > HEADER_BYTES_MAX || len > data.len() {
        return None;
    }
    let address_bytes = match (data[12], data[13]) {
        (0x20, _) | (0x21, 0x00..=0x02) => return Some((Header::Local, len)),
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => return None,
    };
    let ports_at = 16 + 2 * address_bytes;
    let tlvs_at = ports_at + 4;
    if tlvs_at > len {
        return None;
    }
    let mut at = tlvs_at;
    let mut checksum_at = None;
    while at < len {
        let end = (at + 3 <= len).then_some(at + 3 + number(at + 1)?)?;
        if end > len {
            return None;
        }
        if data[at] == 3 && (end != at + 7 || checksum_at.replace(at + 3).is_some()) {
            return None;
        }
        at = end;
    }
    if let Some(at) = checksum_at {
        let mut header = data[..len].to_vec();
        header[at..at + 4].fill(0);
        if crc32c(&header).to_be_bytes() != data[at..at + 4] {
            return None;
        }
    }
    let address = |at: usize, port_at: usize| {
        let ip = match address_bytes {
            4 => IpAddr::from(<[u8; 4]>::try_from(&data[at..at + 4]).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(&data[at..at + 16]).ok()?),
        };
        Some(SocketAddr::new(ip, number(port_at)? as u16))
    };
    let header = Header::Proxied {
        source: address(16, ports_at)?,
        destination: address(16 + address_bytes, ports_at + 2)?,
    };
    Some((header, len))
}

/// Bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}
