//! Whose word on a client's address is taken: nobody's, unless the configuration says so.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::headers::unmapped;
use crate::http1::{Known, RequestHead};

/// The networks that are believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    proxies: Vec<IpNet>,
    hops: Vec<IpNet>,
}

impl Trust {
    /// `proxies` begin each connection with a PROXY header, `hops` write `X-Forwarded-For`. What is no network is left out: the
    /// configuration has been checked.
    pub fn new(proxies: &[String], hops: &[String]) -> Trust {
        let parse = |all: &[String]| all.iter().filter_map(|one| network(one)).collect();
        Trust {
            proxies: parse(proxies),
            hops: parse(hops),
        }
    }

    /// Whether a connection from here begins with a PROXY header.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&peer))
    }

    /// Who asks: the peer, or, if that is a hop that is believed, the last address in `X-Forwarded-For` that is not one. What is no
    /// address there ends the belief: then it is the hop before it.
    pub fn client(&self, peer: IpAddr, head: &RequestHead) -> IpAddr {
        if self.hops.is_empty() || !self.is_hop(peer) {
            return peer;
        }
        let fields = head
            .fields()
            .filter(|(known, ..)| *known == Known::XForwardedFor);
        let values: Vec<&[u8]> = fields.map(|(_, _, value)| value).collect();
        let mut client = peer;
        for value in values.into_iter().rev() {
            for member in value.rsplit(|byte| *byte == b',') {
                let Some(address) = address(member) else {
                    return client;
                };
                client = address;
                if !self.is_hop(client) {
                    return client;
                }
            }
        }
        client
    }

    fn is_hop(&self, address: IpAddr) -> bool {
        self.hops.iter().any(|network| network.contains(&address))
    }
}

/// A network, or a single address.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?.trim();
    text.parse().ok().map(unmapped)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::http1::Limits;

    fn client(hops: &[&str], peer: &str, fields: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut buffer = BytesMut::from(text.as_str());
        let head = RequestHead::parse(&mut buffer, &Limits::default(), None)
            .unwrap()
            .unwrap();
        let hops: Vec<String> = hops.iter().map(|&hop| hop.to_owned()).collect();
        Trust::new(&[], &hops)
            .client(peer.parse().unwrap(), &head)
            .to_string()
    }

    #[test]
    fn nobody_is_believed_unless_it_is_said() {
        let forged = "x-forwarded-for: 192.0.2.9\r\n";
        assert_eq!("192.0.2.1", client(&[], "192.0.2.1", forged));
        assert_eq!("192.0.2.1", client(&["10.0.0.0/8"], "192.0.2.1", forged));
        assert_eq!("192.0.2.9", client(&["192.0.2.1"], "192.0.2.1", forged));
    }

    #[test]
    fn it_is_the_last_address_that_no_hop_of_ours_has() {
        let hops = ["10.0.0.0/8", "2001:db8::/32"];
        for (fields, expected) in [
            (
                "x-forwarded-for: 1.1.1.1, 192.0.2.9, 10.0.0.2\r\n",
                "192.0.2.9",
            ),
            (
                "x-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 192.0.2.9\r\n",
                "192.0.2.9",
            ),
            ("x-forwarded-for: 192.0.2.9, 2001:db8::7\r\n", "192.0.2.9"),
            ("x-forwarded-for: ::ffff:192.0.2.9\r\n", "192.0.2.9"),
            ("x-forwarded-for: 10.0.0.3\r\n", "10.0.0.3"),
            (
                "x-forwarded-for: 1.1.1.1, unknown, 10.0.0.2\r\n",
                "10.0.0.2",
            ),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(expected, client(&hops, "10.0.0.1", fields), "{fields}");
        }
    }
}
