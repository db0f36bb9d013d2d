//! An address as text, without the run-time's formatter where it is IPv4: it is written twice for every request.

use std::io::Write;
use std::net::IpAddr;

/// The longest text is that of an IPv4 address in an IPv6 one.
pub const TEXT_LEN_MAX: usize = 45;

/// Writes an address into `room`; what is returned is the text.
pub fn text_of(address: IpAddr, room: &mut [u8; TEXT_LEN_MAX]) -> &[u8] {
    let len = match address {
        IpAddr::V4(four) => {
            let mut len = 0;
            for (index, octet) in four.octets().into_iter().enumerate() {
                if index > 0 {
                    room[len] = b'.';
                    len += 1;
                }
                for (unit, needed) in [(100, 100), (10, 10), (1, 0)] {
                    if octet >= needed {
                        room[len] = b'0' + octet / unit % 10;
                        len += 1;
                    }
                }
            }
            len
        }
        IpAddr::V6(_) => {
            let mut rest = &mut room[..];
            // There is room for every address.
            let _ = write!(rest, "{address}");
            TEXT_LEN_MAX - rest.len()
        }
    };
    &room[..len]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_the_standard_library_writes(address in any::<IpAddr>(), four in any::<[u8; 4]>()) {
            for address in [address, IpAddr::from(four)] {
                let mut room = [0; TEXT_LEN_MAX];
                let expected = address.to_string();
                prop_assert_eq!(expected.as_bytes(), text_of(address, &mut room));
            }
        }
    }

    #[test]
    fn the_longest_fits() {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
        assert_eq!(TEXT_LEN_MAX, longest.len());
        let mut room = [0; TEXT_LEN_MAX];
        let address = "0:0:0:0:0:ffff:255.255.255.255".parse().unwrap();
        assert_eq!(b"::ffff:255.255.255.255", text_of(address, &mut room));
    }
}
