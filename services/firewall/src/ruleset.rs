//! From the matrix to the rules of one pod, as nft's text. No I/O.
//!
//! There is one table, `inet fw`, and nothing outside of it is touched: the engine's name server has its own table in the same
//! namespace. Every flow makes two rules on each of its sides, one for each direction, so that packets are counted by flow and answers
//! pass only as answers. Rules go by addresses, never by an interface's name.

use std::{collections::BTreeSet, fmt::Write, net::Ipv4Addr};

use chassis::matrix::{Matrix, WORLD};

/// The table.
pub const TABLE: &str = "fw";

/// There is no such pod.
#[derive(Debug, thiserror::Error)]
#[error("there is no pod `{pod}` in the matrix; there are {known}")]
pub struct UnknownPod {
    pod: String,
    known: String,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Into the pod.
    In,
    /// Out of it.
    Out,
    /// Through it, which nothing ever should.
    Forward,
}

impl Direction {
    /// As metrics and counters call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Forward => "forward",
        }
    }
}

/// What became of the packets of a counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// They passed, by this flow.
    Accepted(String),
    /// They did not, for this reason.
    Dropped(&'static str),
}

/// One named counter of the rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// Which way.
    pub direction: Direction,
    /// Whether they passed.
    pub verdict: Verdict,
}

impl Counter {
    /// Its name in the table.
    #[must_use]
    pub fn name(&self) -> String {
        let what = match &self.verdict {
            Verdict::Accepted(flow) => flow,
            Verdict::Dropped(reason) => *reason,
        };
        format!("{}_{what}", self.direction.as_str())
    }

    fn accepted(direction: Direction, flow: &str) -> Self {
        Self {
            direction,
            verdict: Verdict::Accepted(flow.to_owned()),
        }
    }

    fn dropped(direction: Direction, reason: &'static str) -> Self {
        Self {
            direction,
            verdict: Verdict::Dropped(reason),
        }
    }
}

/// Errors of the network about our own connections, path MTU among them.
const ICMP: &str = "icmp";
/// Belongs to no connection that could be.
const INVALID: &str = "invalid";
/// No flow of the matrix.
const NO_FLOW: &str = "no_flow";

/// One rule.
struct Rule<'m> {
    flow: &'m str,
    direction: Direction,
    /// Whether packets in this direction may open a connection, or only answer.
    opens: bool,
    own: Ipv4Addr,
    /// Anybody, or these.
    peers: Option<Vec<Ipv4Addr>>,
    port: u16,
}

impl Rule<'_> {
    fn counter(&self) -> Counter {
        Counter::accepted(self.direction, self.flow)
    }

    fn text(&self) -> String {
        let (theirs, ours) = match self.direction {
            Direction::In => ("saddr", "daddr"),
            _ => ("daddr", "saddr"),
        };
        let (port, states) = if self.opens {
            ("dport", "new,established")
        } else {
            ("sport", "established")
        };
        let peers = match &self.peers {
            None => String::new(),
            Some(peers) => {
                let peers: Vec<_> = peers.iter().map(Ipv4Addr::to_string).collect();
                format!("ip {theirs} {{ {} }} ", peers.join(", "))
            }
        };
        format!(
            "{peers}ip {ours} {} tcp {port} {} ct state {states} counter name \"{}\" accept",
            self.own,
            self.port,
            self.counter().name()
        )
    }
}

/// The rules of a pod. `subnet` is two octets: `10.213`. Loading the text replaces what was loaded before, in one step.
///
/// # Errors
/// When there is no such pod.
pub fn ruleset(matrix: &Matrix, pod: &str, subnet: &str) -> Result<String, UnknownPod> {
    let rules = rules(matrix, pod, subnet)?;
    let mut text = String::new();
    let mut line = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    line(&format!("table inet {TABLE}"));
    line(&format!("delete table inet {TABLE}"));
    line(&format!("table inet {TABLE} {{"));
    for counter in counters_of(&rules) {
        line(&format!("\tcounter {} {{ }}", counter.name()));
    }
    for (direction, chain, loopback, refuse) in [
        (Direction::In, "input", "iif", "drop"),
        // Who calls from here learns at once that it may not.
        (
            Direction::Out,
            "output",
            "oif",
            "reject with icmpx admin-prohibited",
        ),
        (Direction::Forward, "forward", "", "drop"),
    ] {
        let named = |counter: Counter| format!("counter name \"{}\"", counter.name());
        line(&format!("\tchain {chain} {{"));
        line(&format!(
            "\t\ttype filter hook {chain} priority filter; policy drop;"
        ));
        if direction != Direction::Forward {
            let invalid = named(Counter::dropped(direction, INVALID));
            let icmp = named(Counter::accepted(direction, ICMP));
            // ICMP and its successor, by number: the image has no list of names.
            line(&format!("\t\t{loopback} \"lo\" accept"));
            line(&format!("\t\tct state invalid {invalid} drop"));
            line(&format!(
                "\t\tmeta l4proto {{ 1, 58 }} ct state related {icmp} accept"
            ));
        }
        for rule in rules.iter().filter(|rule| rule.direction == direction) {
            line(&format!("\t\t{}", rule.text()));
        }
        let no_flow = named(Counter::dropped(direction, NO_FLOW));
        line(&format!("\t\t{no_flow} {refuse}"));
        line("\t}");
    }
    line("}");
    Ok(text)
}

/// Every counter in the rules of a pod, sorted.
///
/// # Errors
/// When there is no such pod.
pub fn counters(matrix: &Matrix, pod: &str) -> Result<Vec<Counter>, UnknownPod> {
    Ok(counters_of(&rules(matrix, pod, "0.0")?))
}

fn counters_of(rules: &[Rule<'_>]) -> Vec<Counter> {
    let mut counters: BTreeSet<_> = rules.iter().map(Rule::counter).collect();
    for direction in [Direction::In, Direction::Out] {
        counters.insert(Counter::accepted(direction, ICMP));
        counters.insert(Counter::dropped(direction, INVALID));
        counters.insert(Counter::dropped(direction, NO_FLOW));
    }
    counters.insert(Counter::dropped(Direction::Forward, NO_FLOW));
    counters.into_iter().collect()
}

fn rules<'m>(matrix: &'m Matrix, pod: &str, subnet: &str) -> Result<Vec<Rule<'m>>, UnknownPod> {
    if !matrix.pods.contains_key(pod) {
        let known: Vec<_> = matrix.pods.keys().map(String::as_str).collect();
        return Err(UnknownPod {
            pod: pod.to_owned(),
            known: known.join(", "),
        });
    }
    let mut rules = Vec::new();
    for flow in &matrix.flows {
        let Some(own) = matrix.address(subnet, pod, &flow.network) else {
            continue;
        };
        let addresses = |names: &[String]| -> Vec<Ipv4Addr> {
            let others = names.iter().filter(|name| *name != pod);
            others
                .filter_map(|name| matrix.address(subnet, name, &flow.network))
                .collect()
        };
        let mut both = |peers: Option<Vec<Ipv4Addr>>, opening: Direction| {
            if peers.as_ref().is_some_and(Vec::is_empty) {
                return;
            }
            for direction in [Direction::In, Direction::Out] {
                rules.push(Rule {
                    flow: &flow.name,
                    direction,
                    opens: direction == opening,
                    own,
                    peers: peers.clone(),
                    port: flow.port,
                });
            }
        };
        if flow.to.iter().any(|to| to == pod) {
            let world = flow.from.iter().any(|from| from == WORLD);
            both((!world).then(|| addresses(&flow.from)), Direction::In);
        }
        if flow.from.iter().any(|from| from == pod) {
            both(Some(addresses(&flow.to)), Direction::Out);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use chassis::matrix::matrix;

    use super::*;

    fn of(pod: &str) -> String {
        ruleset(matrix(), pod, "10.213").unwrap()
    }

    #[track_caller]
    fn has(text: &str, rule: &str) {
        assert!(
            text.lines().any(|line| line.trim() == rule),
            "{rule}\n{text}"
        );
    }

    #[test]
    fn every_chain_of_every_pod_drops_what_no_rule_accepts() {
        for pod in matrix().pods.keys() {
            let text = of(pod);
            for chain in ["input", "output", "forward"] {
                has(
                    &text,
                    &format!("type filter hook {chain} priority filter; policy drop;"),
                );
            }
            assert_eq!(text.matches("policy drop").count(), 3);
            assert_eq!(text.matches("policy accept").count(), 0);
        }
    }

    #[test]
    fn only_our_own_table_is_touched() {
        for pod in matrix().pods.keys() {
            let text = of(pod);
            assert!(text.starts_with("table inet fw\ndelete table inet fw\ntable inet fw {\n"));
            assert_eq!(text.matches("table").count(), 3);
            assert!(!text.contains("flush"));
        }
    }

    #[test]
    fn a_flow_has_two_rules_on_each_side() {
        let web = of("pod-web-1");
        has(
            &web,
            "ip daddr { 10.213.3.31, 10.213.3.32 } ip saddr 10.213.3.21 tcp dport 3306 ct state new,established counter name \"out_statements\" accept",
        );
        has(
            &web,
            "ip saddr { 10.213.3.31, 10.213.3.32 } ip daddr 10.213.3.21 tcp sport 3306 ct state established counter name \"in_statements\" accept",
        );
        let mysql = of("pod-mysql-2");
        has(
            &mysql,
            "ip saddr { 10.213.3.21 } ip daddr 10.213.3.32 tcp dport 3306 ct state new,established counter name \"in_statements\" accept",
        );
        has(
            &mysql,
            "ip daddr { 10.213.3.21 } ip saddr 10.213.3.32 tcp sport 3306 ct state established counter name \"out_statements\" accept",
        );
    }

    #[test]
    fn servers_that_call_each_other_are_on_both_sides_and_not_their_own_peer() {
        let text = of("pod-mysql-1");
        for rule in [
            "ip saddr { 10.213.3.32 } ip daddr 10.213.3.31 tcp dport 3306 ct state new,established counter name \"in_replication\" accept",
            "ip daddr { 10.213.3.32 } ip saddr 10.213.3.31 tcp dport 3306 ct state new,established counter name \"out_replication\" accept",
        ] {
            has(&text, rule);
        }
        // Prometheus asks its own pod's owner over the loopback.
        assert!(!of("pod-telemetry").contains("ip saddr { 10.213.4.51 }"));
    }

    #[test]
    fn the_world_comes_to_the_edge_alone_and_the_host_to_the_pages_alone() {
        let edge = of("pod-edge");
        has(
            &edge,
            "ip daddr 10.213.1.10 tcp dport 8443 ct state new,established counter name \"in_https\" accept",
        );
        for pod in matrix().pods.keys().filter(|pod| *pod != "pod-edge") {
            for line in of(pod).lines().filter(|line| line.contains(" tcp ")) {
                assert!(line.contains('{'), "{pod}: no peer is named in {line}");
            }
        }
        has(
            &of("pod-telemetry"),
            "ip saddr { 10.213.4.1 } ip daddr 10.213.4.51 tcp dport 9090 ct state new,established counter name \"in_pages\" accept",
        );
    }

    #[test]
    fn every_counter_that_is_used_is_made_and_the_other_way_round() {
        for pod in matrix().pods.keys() {
            let text = of(pod);
            for counter in counters(matrix(), pod).unwrap() {
                let name = counter.name();
                let plain = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(name.chars().all(plain), "{name}");
                assert_eq!(text.matches(&format!("counter {name} {{ }}")).count(), 1);
                assert!(text.contains(&format!("counter name \"{name}\"")), "{name}");
            }
        }
    }

    #[test]
    fn a_pod_that_there_is_not_is_named_with_those_there_are() {
        let error = ruleset(matrix(), "pod-web-3", "10.213").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("pod-web-3") && error.contains("pod-web-2"),
            "{error}"
        );
    }
}
