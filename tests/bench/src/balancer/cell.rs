//! What is measured, one by one.

use std::fmt;

use crate::h2load::{NARROW, WIDE, Width};

/// How a proxy speaks to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// HTTP/1.1 in plain text.
    Plain,
    /// HTTP/1.1 in TLS, both sides with a certificate.
    Mutual,
}

impl Link {
    pub(super) const ALL: [Link; 2] = [Link::Plain, Link::Mutual];

    pub(super) fn name(self) -> &'static str {
        match self {
            Link::Plain => "plain",
            Link::Mutual => "mtls",
        }
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// GET, with an answer of this size.
    Get { path: &'static str },
    /// POST of 64 KiB, with a short answer.
    Upload,
}

/// Requests over connections that stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) http2: bool,
    pub(super) link: Link,
    pub(super) request: Request,
}

impl Traffic {
    /// How much of it is under way at one time.
    pub(super) fn width(self) -> Width {
        match self.request {
            Request::Get { path: "/1m" } => NARROW,
            Request::Get { .. } | Request::Upload => WIDE,
        }
    }
}

/// Connections themselves; the backends speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    /// A whole handshake and one request each.
    New,
    /// A session resumed, and one request each.
    Resumed,
    /// Many that have had one request and do nothing now.
    Idle,
}

/// One of them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Traffic(Traffic),
    Connections(Connections),
}

impl fmt::Display for Traffic {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.http2 { "http2" } else { "http1" };
        let request = match self.request {
            Request::Get { path } => path.trim_start_matches('/'),
            Request::Upload => "upload",
        };
        write!(to, "{protocol}-{}-{request}", self.link.name())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Traffic(traffic) => traffic.fmt(to),
            Cell::Connections(Connections::New) => to.write_str("connections-new"),
            Cell::Connections(Connections::Resumed) => to.write_str("connections-resumed"),
            Cell::Connections(Connections::Idle) => to.write_str("connections-idle"),
        }
    }
}

/// All of them, in the order in which they are measured: what has the same link together, for proxies are started for a link.
pub(super) fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    let requests = ["/1k", "/64k", "/1m"]
        .map(|path| Request::Get { path })
        .into_iter()
        .chain([Request::Upload]);
    for link in Link::ALL {
        for http2 in [false, true] {
            for request in requests.clone() {
                cells.push(Cell::Traffic(Traffic {
                    http2,
                    link,
                    request,
                }));
            }
        }
    }
    cells
        .extend([Connections::New, Connections::Resumed, Connections::Idle].map(Cell::Connections));
    cells
}

/// The few that show that everything runs.
pub(super) fn quick() -> Vec<Cell> {
    let few = [
        "http1-plain-1k",
        "http2-plain-upload",
        "http1-mtls-1m",
        "http2-mtls-1k",
    ];
    let is_quick = |cell: &Cell| match cell {
        Cell::Traffic(_) => few.contains(&cell.to_string().as_str()),
        Cell::Connections(_) => true,
    };
    all().into_iter().filter(is_quick).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_cell_has_a_name_of_its_own() {
        let names: BTreeSet<String> = all().iter().map(Cell::to_string).collect();
        assert_eq!(19, names.len());
        assert!(names.contains("http2-plain-64k"), "{names:?}");
    }

    #[test]
    fn the_quick_ones_are_all_there() {
        assert_eq!(7, quick().len());
    }
}
