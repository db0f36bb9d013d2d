//! Whether the balancers send to a web server. No I/O.

use crate::status::Edge;

/// What each balancer says of its backends.
pub(super) type Edges = [(&'static str, Result<Edge, String>); 2];

/// Every balancer sends to it.
pub(super) fn by_all_up(backend: &str, edges: &Edges) -> Result<(), String> {
    edges
        .iter()
        .try_for_each(|(balancer, edge)| match is_up(backend, edge)? {
            (true, _) => Ok(()),
            (false, reason) => Err(format!("{balancer} does not send to {backend}: {reason}")),
        })
}

/// No balancer sends to it any more. One that cannot be asked might.
pub(super) fn by_none_up(backend: &str, edges: &Edges) -> Result<(), String> {
    edges
        .iter()
        .try_for_each(|(balancer, edge)| match is_up(backend, edge)? {
            (true, _) => Err(format!("{balancer} still sends to it")),
            (false, _) => Ok(()),
        })
}

/// A balancer sends to every backend that it has.
pub(super) fn all_up(balancer: &str, edge: Result<Edge, String>) -> Result<(), String> {
    let edge = edge?;
    match edge.backends.iter().find(|backend| !backend.is_well()) {
        None if edge.backends.is_empty() => Err(format!("{balancer} has no backends")),
        None => Ok(()),
        Some(backend) => Err(format!(
            "{balancer} does not send to {}: {}",
            backend.name, backend.reason
        )),
    }
}

/// Whether a balancer sends to a backend, and what its last check found.
fn is_up<'a>(backend: &str, edge: &'a Result<Edge, String>) -> Result<(bool, &'a str), String> {
    let backends = &edge.as_ref().map_err(Clone::clone)?.backends;
    let found = backends.iter().find(|found| found.name == backend);
    Ok(found.map_or((false, "it does not know it"), |found| {
        (found.is_well(), found.reason.as_str())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Backend;

    fn edge(states: [&str; 2]) -> Edge {
        let backend = |name: &str, state: &str| Backend {
            name: name.to_owned(),
            state: state.to_owned(),
            reason: "as it is".to_owned(),
            in_flight: 0,
        };
        Edge {
            backends: vec![backend("web-1", states[0]), backend("web-2", states[1])],
        }
    }

    fn edges(first: [&str; 2], second: [&str; 2]) -> Edges {
        [
            ("balancer-1", Ok(edge(first))),
            ("balancer-2", Ok(edge(second))),
        ]
    }

    #[test]
    fn a_backend_is_back_when_both_balancers_send_to_it() {
        let up = edges(["up", "down"], ["up", "down"]);
        assert!(by_all_up("web-1", &up).is_ok());
        assert!(by_all_up("web-2", &up).is_err());
        let one = by_all_up("web-1", &edges(["up", "up"], ["starting", "up"]));
        assert_eq!(
            one.unwrap_err(),
            "balancer-2 does not send to web-1: as it is"
        );
    }

    #[test]
    fn a_backend_is_out_when_no_balancer_sends_to_it_and_both_say_so() {
        assert!(by_none_up("web-1", &edges(["down", "up"], ["down", "up"])).is_ok());
        assert!(by_none_up("web-1", &edges(["down", "up"], ["up", "up"])).is_err());
        let mut silent = edges(["down", "up"], ["down", "up"]);
        silent[1].1 = Err("it does not answer".to_owned());
        assert!(by_none_up("web-1", &silent).is_err());
        assert!(by_all_up("web-2", &silent).is_err());
    }

    #[test]
    fn a_new_balancer_is_ready_when_it_sends_to_all() {
        assert!(all_up("balancer-1", Ok(edge(["up", "up"]))).is_ok());
        assert!(all_up("balancer-1", Ok(edge(["up", "starting"]))).is_err());
        assert!(all_up("balancer-1", Ok(Edge::default())).is_err());
        assert!(all_up("balancer-1", Err("no".to_owned())).is_err());
    }
}
