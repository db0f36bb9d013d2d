//! Discovery: the addresses of a service of several containers, which come and go.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::edge::{Edge, ms};
use crate::keeper::Keeper;

/// An address that was not among those found so often in a row is gone. Not at once: name servers leave some out of long answers.
const MISSES_MAX: u32 = 3;

/// The addresses of hosts, as they were found.
#[derive(Debug, Default)]
pub struct Discovery {
    hosts: HashMap<String, BTreeMap<IpAddr, u32>>,
}

impl Discovery {
    /// A look has found these; what the host's addresses are now.
    pub fn found(&mut self, host: &str, found: &[IpAddr]) -> Vec<IpAddr> {
        let known = self.hosts.entry(host.to_owned()).or_default();
        for missed in known.values_mut() {
            *missed += 1;
        }
        known.extend(found.iter().map(|address| (*address, 0)));
        known.retain(|_, missed| *missed < MISSES_MAX);
        known.keys().copied().collect()
    }

    /// Looks all of them up; true if anything is new. A host that cannot be looked up keeps its addresses: a name server that is away
    /// takes no backend out.
    pub async fn look(&mut self, edge: &Edge) -> bool {
        let limit = ms(edge.config.health.timeout_ms);
        let mut is_new = false;
        for (host, port) in edge.roster.hosts_of_many() {
            match timeout(limit, lookup_host((host.as_str(), port))).await {
                Ok(Ok(found)) => {
                    let found: Vec<_> = found.map(|address| address.ip()).collect();
                    is_new |= edge.roster.found(&host, self.found(&host, &found));
                }
                Ok(Err(error)) => tracing::debug!(host, %error, "host is not found"),
                Err(_) => tracing::debug!(host, "the name server does not answer"),
            }
        }
        is_new
    }

    /// Looks again and again until it is dropped.
    pub async fn follow(mut self, edge: Arc<Edge>, keeper: Arc<Keeper>) {
        loop {
            sleep(ms(edge.config.health.interval_ms)).await;
            if self.look(&edge).await {
                keeper.reconcile(&edge, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_at_once_and_goes_when_it_is_missed_again_and_again() {
        let [one, two] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut discovery = Discovery::default();
        assert_eq!(vec![one], discovery.found("web", &[one]));
        assert_eq!(vec![one, two], discovery.found("web", &[two, one]));
        assert_eq!(vec![one, two], discovery.found("web", &[two]));
        assert_eq!(vec![one, two], discovery.found("web", &[two]));
        assert_eq!(vec![one, two], discovery.found("web", &[one]));
        assert_eq!(vec![one, two], discovery.found("web", &[one]));
        assert_eq!(vec![one], discovery.found("web", &[one]));
        assert_eq!(vec![two], discovery.found("other", &[two]));
    }
}
