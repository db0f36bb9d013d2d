//! The paths between the three, each with a proxy on it that breaks it.

use std::fmt;

use anyhow::Result;
use harness::{Direction, Proxy, Server};

/// A path on which one calls another. A server is 0 for mysql-1, 1 for mysql-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// The arbiter's connections to a server.
    Arbiter(usize),
    /// The receiver that reads from this server; it runs on the other one.
    Source(usize),
}

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Connections are reset, new ones too.
    Cut,
    /// Nothing arrives any more, in either direction; connections stay.
    Silent,
    /// What the caller sends does not arrive.
    DeafServer,
    /// What the server answers does not arrive.
    DeafCaller,
}

/// All four.
#[derive(Debug)]
pub struct Links {
    arbiter: [Proxy; 2],
    source: [Proxy; 2],
}

impl Link {
    /// Every link.
    pub const ALL: [Link; 4] = [
        Link::Arbiter(0),
        Link::Arbiter(1),
        Link::Source(0),
        Link::Source(1),
    ];
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Arbiter(server) => write!(f, "arbiter → mysql-{}", server + 1),
            Link::Source(server) => write!(f, "mysql-{} → mysql-{}", 2 - server, server + 1),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::Cut => "cut",
            Broken::Silent => "silent",
            Broken::DeafServer => "silent towards the server",
            Broken::DeafCaller => "silent towards the caller",
        })
    }
}

impl Links {
    /// Whole, in front of these two.
    pub async fn before(servers: [&Server; 2]) -> Result<Links> {
        let proxy = |server: &Server| Proxy::start(([127, 0, 0, 1], server.port()).into());
        let [one, two] = servers;
        Ok(Links {
            arbiter: [proxy(one).await?, proxy(two).await?],
            source: [proxy(one).await?, proxy(two).await?],
        })
    }

    /// The port on loopback by which the link is used.
    pub fn port(&self, link: Link) -> u16 {
        self.of(link).port()
    }

    /// Breaks a link, until it is healed.
    pub fn break_it(&self, link: Link, how: Broken) {
        let proxy = self.of(link);
        match how {
            Broken::Cut => proxy.cut(),
            Broken::Silent => {
                proxy.freeze(Direction::ToServer);
                proxy.freeze(Direction::ToClient);
            }
            Broken::DeafServer => proxy.freeze(Direction::ToServer),
            Broken::DeafCaller => proxy.freeze(Direction::ToClient),
        }
    }

    /// Makes a link whole.
    pub fn heal(&self, link: Link) {
        self.of(link).heal();
    }

    /// Makes all of them whole.
    pub fn heal_all(&self) {
        Link::ALL.into_iter().for_each(|link| self.heal(link));
    }

    fn of(&self, link: Link) -> &Proxy {
        match link {
            Link::Arbiter(server) => &self.arbiter[server],
            Link::Source(server) => &self.source[server],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_named_from_who_calls_to_who_is_called() {
        assert_eq!("mysql-2 → mysql-1", Link::Source(0).to_string());
        assert_eq!("mysql-1 → mysql-2", Link::Source(1).to_string());
    }
}
