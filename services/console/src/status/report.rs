//! From what was seen to what is said. No I/O.

use std::fmt::Write;

use serde::Serialize;

use super::{Edge, Pair};
use crate::compose::Container;

/// In the order of a request's way; what is not among them comes last.
const ORDER: [&str; 9] = [
    "balancer-1",
    "balancer-2",
    "web-1",
    "web-2",
    "mysql-1",
    "mysql-2",
    "arbiter",
    "pki",
    "migrate",
];

/// Services that do their work and end.
const ONE_SHOTS: [&str; 2] = ["pki", "migrate"];

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs, and says that it is well.
    Healthy,
    /// It runs, and has not said so yet.
    Starting,
    /// It runs, and says that it is not.
    Unhealthy,
    /// It has done its work.
    Done,
    /// It has ended, and should not have, or with an error.
    Failed,
    /// It is not there, or does not run.
    Away,
}

impl State {
    fn of(container: Option<&Container>, service: &str) -> Self {
        let one_shot = ONE_SHOTS.contains(&service);
        let Some(container) = container else {
            return Self::Away;
        };
        match (container.state.as_str(), container.health.as_str()) {
            ("running", "unhealthy") => Self::Unhealthy,
            ("running", "healthy") => Self::Healthy,
            ("running", "") if !one_shot => Self::Healthy,
            ("running" | "created" | "restarting", _) => Self::Starting,
            ("exited", _) if one_shot && container.exit_code == 0 => Self::Done,
            ("exited" | "dead", _) if one_shot => Self::Failed,
            _ => Self::Away,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Starting => "starting",
            Self::Unhealthy => "unhealthy",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Away => "away",
        }
    }

    fn is_well(self) -> bool {
        matches!(self, Self::Healthy | Self::Done)
    }
}

/// A service of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What more there is to say of it: a database's role, and how far it is behind.
    pub note: String,
}

/// How the stack is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In a sentence.
    pub verdict: String,
    /// Nothing is wrong.
    pub well: bool,
    /// Every service.
    pub services: Vec<Service>,
    /// The databases, as the arbiter sees them, if it answers.
    pub pair: Option<Pair>,
    /// The backends, as each balancer that answers sees them.
    pub edges: Vec<(String, Edge)>,
    /// What is wrong besides, a sentence each.
    pub faults: Vec<String>,
    /// What to do next.
    pub next: String,
}

impl Report {
    /// From what Compose, the arbiter and the balancers said.
    #[must_use]
    pub fn of(
        expected: &[String],
        containers: &[Container],
        pair: Result<Pair, String>,
        edges: Vec<(String, Result<Edge, String>)>,
    ) -> Self {
        let container = |name: &str| containers.iter().find(|c| c.service == name);
        let mut names: Vec<&String> = expected.iter().collect();
        names.sort_by_key(|name| {
            let place = ORDER.iter().position(|known| known == name);
            (place.unwrap_or(ORDER.len()), (*name).clone())
        });
        let services: Vec<Service> = names
            .into_iter()
            .map(|name| Service {
                name: name.clone(),
                state: State::of(container(name), name),
                note: pair
                    .as_ref()
                    .map_or_else(|_| String::new(), |pair| note(pair, name)),
            })
            .collect();
        if services
            .iter()
            .all(|service| matches!(service.state, State::Away | State::Done))
        {
            return Self::nothing_runs(services);
        }

        let mut faults = Vec::new();
        for (wanted, words) in [
            (State::Away, "away"),
            (State::Failed, "failed"),
            (State::Unhealthy, "unhealthy"),
            (State::Starting, "still starting"),
        ] {
            let ailing: Vec<_> = services
                .iter()
                .filter(|service| service.state == wanted)
                .map(|service| service.name.as_str())
                .collect();
            if !ailing.is_empty() {
                let verb = if ailing.len() == 1 { "is" } else { "are" };
                let verb = if wanted == State::Failed { "has" } else { verb };
                faults.push(format!("{} {verb} {words}", ailing.join(", ")));
            }
        }
        match &pair {
            Ok(pair) => faults.extend(of_the_pair(pair)),
            Err(_) if !is_well(&services, "arbiter") => {
                faults.push("who is primary cannot be asked while the arbiter is away; everything goes on as it was".to_owned());
            }
            Err(error) => faults.push(format!("the arbiter does not answer: {error}")),
        }
        let mut answered = Vec::new();
        for (balancer, edge) in edges {
            match edge {
                Ok(edge) => {
                    faults.extend(of_the_backends(&balancer, &edge));
                    answered.push((balancer, edge));
                }
                Err(error) if is_well(&services, &balancer) => {
                    faults.push(format!("{balancer} does not answer: {error}"));
                }
                Err(_) => {}
            }
        }
        let ailing = services.iter().find(|service| !service.state.is_well());
        let next = match ailing {
            Some(service) => format!(
                "./stack logs {} says why; ./stack up brings back what is away",
                service.name
            ),
            None if faults.is_empty() => String::new(),
            None => "./stack logs arbiter says more".to_owned(),
        };
        let pair = pair.ok();
        let (verdict, well) = match faults.as_slice() {
            [] => (all_is_well(pair.as_ref()), true),
            [first, ..] => (first.clone(), false),
        };
        Self {
            verdict,
            well,
            services,
            pair,
            edges: answered,
            faults: faults.into_iter().skip(1).collect(),
            next,
        }
    }

    fn nothing_runs(services: Vec<Service>) -> Self {
        Self {
            verdict: "nothing runs".to_owned(),
            well: false,
            services,
            pair: None,
            edges: Vec::new(),
            faults: Vec::new(),
            next: "./stack up starts it".to_owned(),
        }
    }

    /// Of a stack that cannot be asked.
    #[must_use]
    pub fn unknown(error: &str) -> Self {
        Self {
            verdict: format!("the stack cannot be asked: {error}"),
            well: false,
            services: Vec::new(),
            pair: None,
            edges: Vec::new(),
            faults: Vec::new(),
            next: "./stack doctor says what is missing".to_owned(),
        }
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.well
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a report has text keys");
        format!("{json}\n")
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.verdict);
        for fault in &self.faults {
            let _ = writeln!(text, "{fault}");
        }
        if !self.services.is_empty() {
            let _ = writeln!(text);
        }
        for Service { name, state, note } in &self.services {
            let line = format!("{name:<14}{:<11}{note}", state.as_str());
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if !self.edges.is_empty() {
            let _ = writeln!(text);
        }
        for (balancer, edge) in &self.edges {
            let backends: Vec<_> = edge
                .backends
                .iter()
                .map(|b| format!("{} {} ({} in flight)", b.name, b.state, b.in_flight))
                .collect();
            let _ = writeln!(text, "{balancer} sees {}", backends.join(", "));
        }
        if !self.next.is_empty() {
            let _ = writeln!(text, "\n{}", self.next);
        }
        text
    }
}

fn is_well(services: &[Service], name: &str) -> bool {
    services
        .iter()
        .any(|service| service.name == name && service.state.is_well())
}

fn all_is_well(pair: Option<&Pair>) -> String {
    match pair {
        Some(pair) => format!(
            "all is well: {} takes writes, in sync are {} (epoch {})",
            pair.primary,
            pair.in_sync.join(" and "),
            pair.epoch
        ),
        None => "all is well".to_owned(),
    }
}

/// A database's role, whether it is in sync, and how far it is behind.
fn note(pair: &Pair, name: &str) -> String {
    let Some(server) = pair.servers.iter().find(|server| server.name == name) else {
        return String::new();
    };
    let mut words = vec![match server.role.as_str() {
        "none" => "no role yet".to_owned(),
        role => role.to_owned(),
    }];
    if pair.in_sync.iter().any(|in_sync| in_sync == name) {
        words.push("in sync".to_owned());
    }
    if let Some(lag) = server.lag_ms {
        words.push(format!("{lag} ms behind"));
    }
    words.join(", ")
}

/// What is wrong with the databases.
fn of_the_pair(pair: &Pair) -> Vec<String> {
    let mut faults = Vec::new();
    let replicas: Vec<_> = pair
        .servers
        .iter()
        .filter(|server| server.role == "replica")
        .map(|server| server.name.as_str())
        .collect();
    if pair.epoch == 0 {
        faults.push("there is no primary yet".to_owned());
    } else if !pair.open {
        let is_there = |server: &super::Server| server.name == pair.primary && server.reachable;
        faults.push(match pair.servers.iter().any(is_there) {
            true => format!("{} takes no writes", pair.primary),
            false => format!(
                "{} does not answer the arbiter, and takes no writes",
                pair.primary
            ),
        });
    } else if !pair.acknowledging {
        faults.push(match pair.in_sync.len() {
            0 | 1 => format!(
                "{}, which is alone, has committed nothing for a moment; reads go on",
                pair.primary
            ),
            _ => format!(
                "writes wait for {}, which does not acknowledge; reads go on",
                replicas.join(", ")
            ),
        });
    }
    faults.extend(
        pair.waits
            .iter()
            .map(|wait| format!("the arbiter waits: {wait}")),
    );
    faults.extend(
        pair.refusals
            .iter()
            .map(|refusal| format!("a person has to look at this: {refusal}")),
    );
    faults
}

fn of_the_backends(balancer: &str, edge: &Edge) -> Vec<String> {
    edge.backends
        .iter()
        .filter(|backend| !backend.is_well())
        .map(|backend| {
            format!(
                "{balancer} sees {} {}: {}",
                backend.name, backend.state, backend.reason
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Backend, Server};
    use super::*;

    fn expected() -> Vec<String> {
        let mut names = ORDER.map(str::to_owned).to_vec();
        names.reverse();
        names
    }

    fn containers() -> Vec<Container> {
        ORDER
            .iter()
            .map(|&service| {
                let one_shot = ONE_SHOTS.contains(&service);
                Container {
                    service: service.to_owned(),
                    state: if one_shot { "exited" } else { "running" }.to_owned(),
                    health: if one_shot { "" } else { "healthy" }.to_owned(),
                    exit_code: 0,
                }
            })
            .collect()
    }

    fn pair() -> Pair {
        let server = |name: &str, role: &str, lag_ms| Server {
            name: name.to_owned(),
            role: role.to_owned(),
            reachable: true,
            lag_ms,
        };
        Pair {
            epoch: 1,
            primary: "mysql-1".to_owned(),
            in_sync: vec!["mysql-1".to_owned(), "mysql-2".to_owned()],
            open: true,
            acknowledging: true,
            servers: vec![
                server("mysql-1", "primary", None),
                server("mysql-2", "replica", Some(3)),
            ],
            ..Pair::default()
        }
    }

    fn edges() -> Vec<(String, Result<Edge, String>)> {
        let backend = |name: &str| Backend {
            name: name.to_owned(),
            state: "up".to_owned(),
            reason: "ready".to_owned(),
            in_flight: 0,
        };
        let edge = Edge {
            backends: vec![backend("web-1"), backend("web-2")],
        };
        ["balancer-1", "balancer-2"]
            .map(|name| (name.to_owned(), Ok(edge.clone())))
            .to_vec()
    }

    #[test]
    fn a_whole_stack_is_well_in_the_order_of_a_requests_way() {
        let report = Report::of(&expected(), &containers(), Ok(pair()), edges());
        assert!(report.is_well(), "{report:#?}");
        let text = report.to_text();
        assert!(
            text.starts_with("all is well: mysql-1 takes writes"),
            "{text}"
        );
        let at = |name: &str| text.find(&format!("\n{name} ")).unwrap();
        assert!(
            at("balancer-1") < at("web-1") && at("web-1") < at("mysql-1"),
            "{text}"
        );
        // The columns are as wide as the longest name.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("mysql-2 healthy replica, in sync, 3 ms behind"),
            "{text}"
        );
        assert!(words.contains("pki done"), "{text}");
    }

    #[test]
    fn a_replica_that_is_away_is_what_writes_wait_for() {
        let mut pair = pair();
        pair.acknowledging = false;
        pair.servers[1].reachable = false;
        let mut containers = containers();
        containers[5].state = "exited".to_owned();
        containers[5].health = String::new();
        containers[5].exit_code = 137;
        let report = Report::of(&expected(), &containers, Ok(pair), edges());
        let text = report.to_text();
        assert!(!report.is_well());
        assert!(text.starts_with("mysql-2 is away\n"), "{text}");
        assert!(text.contains("writes wait for mysql-2"), "{text}");
        assert!(text.contains("./stack logs mysql-2"), "{text}");
    }

    #[test]
    fn a_primary_that_is_alone_waits_for_nobody() {
        let mut pair = pair();
        pair.acknowledging = false;
        pair.in_sync.pop();
        let report = Report::of(&expected(), &containers(), Ok(pair), edges());
        let text = report.to_text();
        assert!(text.contains("mysql-1, which is alone,"), "{text}");
        assert!(!text.contains("writes wait"), "{text}");
    }

    #[test]
    fn a_service_that_was_never_made_is_away_and_a_one_shot_that_failed_has_failed() {
        let mut containers = containers();
        containers[8].exit_code = 1;
        containers.remove(2);
        let report = Report::of(&expected(), &containers, Ok(pair()), edges());
        let text = report.to_text();
        assert!(
            text.starts_with("web-1 is away\nmigrate has failed\n"),
            "{text}"
        );
    }

    #[test]
    fn a_backend_that_a_balancer_does_not_reach_is_named_with_the_reason() {
        let mut edges = edges();
        if let Ok(edge) = &mut edges[1].1 {
            edge.backends[0].state = "down".to_owned();
            edge.backends[0].reason = "connection refused".to_owned();
        }
        let report = Report::of(&expected(), &containers(), Ok(pair()), edges);
        assert_eq!(
            report.verdict,
            "balancer-2 sees web-1 down: connection refused"
        );
    }

    #[test]
    fn without_the_arbiter_the_rest_is_told() {
        let mut containers = containers();
        containers[6].state = "exited".to_owned();
        let report = Report::of(&expected(), &containers, Err("no".to_owned()), edges());
        assert_eq!(report.verdict, "arbiter is away");
        assert!(report.to_text().contains("everything goes on as it was"));
        let report = Report::of(
            &expected(),
            &self::containers(),
            Err("hm".to_owned()),
            edges(),
        );
        assert_eq!(report.verdict, "the arbiter does not answer: hm");
    }

    #[test]
    fn where_nothing_runs_the_answer_is_up() {
        let report = Report::of(&expected(), &[], Err("no".to_owned()), Vec::new());
        assert!(!report.is_well());
        assert_eq!(report.verdict, "nothing runs");
        assert!(report.to_text().ends_with("./stack up starts it\n"));
    }
}
