//! Which requests come, and when: an open model, in which they come whether or not earlier ones were answered, as users do.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};

use super::dice::{For, roll};

/// Requests a second. With the time that a backend works on one, some thirty are under way while all is well.
pub(super) const RATE: f64 = 1000.0;

/// The header that carries a request's number.
pub(super) const NUMBER: &str = "x-bench-number";

/// What is asked for; any path but that of the checks is the same to the backends.
const PATH: &str = "/work";

/// What a POST carries.
const BODY: &[u8] = &[b'x'; 256];

/// What a request is to a balancer that would like to send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It may be done twice.
    Get,
    /// It must not, once a backend may have seen it.
    Post,
    /// It carries an `Idempotency-Key`, by which the app knows it again: it may.
    KeyedPost,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// When it comes, from the beginning.
    pub(super) due: Duration,
}

impl Planned {
    fn new(number: u64, due: Duration) -> Planned {
        let kind = match roll(For::Kind, number) {
            share if share < 0.1 => Kind::Post,
            share if share < 0.2 => Kind::KeyedPost,
            _ => Kind::Get,
        };
        Planned { number, kind, due }
    }

    /// As it is sent.
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .uri(PATH)
            .header("host", "localhost")
            .header(NUMBER, self.number);
        if self.kind == Kind::KeyedPost {
            request = request.header("idempotency-key", format!("bench-{}", self.number));
        }
        let (method, body) = match self.kind {
            Kind::Get => (Method::GET, &[][..]),
            Kind::Post | Kind::KeyedPost => (Method::POST, BODY),
        };
        request
            .method(method)
            .body(Full::new(Bytes::from_static(body)))
            .context("a request made of constants")
    }
}

/// All requests of so long a time: at random moments, as many users make them who know nothing of each other.
pub(super) fn requests(length: Duration) -> Vec<Planned> {
    let mut due = 0.0;
    (0..)
        .map(|number| {
            due += -(1.0 - roll(For::Gap, number)).ln() / RATE;
            Planned::new(number, Duration::from_secs_f64(due))
        })
        .take_while(|planned| planned.due < length)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_its_rate_and_every_kind_and_is_the_same_again() {
        let plan = requests(Duration::from_secs(10));
        assert!((9_700..10_300).contains(&plan.len()), "{}", plan.len());
        assert_eq!(plan, requests(Duration::from_secs(10)));
        for (kind, expected) in [
            (Kind::Get, 8_000),
            (Kind::Post, 1_000),
            (Kind::KeyedPost, 1_000),
        ] {
            let count = plan.iter().filter(|planned| planned.kind == kind).count();
            assert!(count.abs_diff(expected) < 300, "{kind:?}: {count}");
        }
    }

    #[test]
    fn only_a_keyed_post_carries_a_key() {
        for kind in [Kind::Get, Kind::Post, Kind::KeyedPost] {
            let planned = Planned {
                number: 7,
                kind,
                due: Duration::ZERO,
            };
            let request = planned.request().unwrap();
            assert_eq!("7", request.headers()[NUMBER]);
            assert_eq!(kind == Kind::Get, request.method() == Method::GET);
            let has_key = request.headers().contains_key("idempotency-key");
            assert_eq!(kind == Kind::KeyedPost, has_key);
        }
    }
}
