//! The picture of the whole stack on the status page: pods, what is in each, and how it is, from the figures of monitoring and from what
//! this web server knows itself. No I/O.

use router::ClusterHealth;

use crate::monitoring::{RATE, Samples};

/// Certificates are renewed by `./stack up` when fewer days than these are left; below half of them somebody should look.
const DAYS_FEW: f64 = 15.0;

/// What a web server calls those that it has not heard of.
const OTHERS: &str = "other web servers";

/// What this web server knows without asking anybody.
pub(super) struct Own<'a> {
    /// Its name.
    pub(super) instance: &'a str,
    /// Whether new work is welcome.
    pub(super) phase: &'a str,
    /// What its router knows of the databases.
    pub(super) health: &'a ClusterHealth,
}

/// The stack, from the edge down.
pub(super) struct Picture {
    /// The way of a request, level by level, and who stands beside it.
    pub(super) levels: Vec<Level>,
    /// What is not as it should be, a sentence each.
    pub(super) troubles: Vec<String>,
}

/// Pods beside each other.
pub(super) struct Level {
    /// What comes in from above, over which wire.
    pub(super) wire: &'static str,
    pub(super) pods: Vec<Pod>,
}

/// One network namespace with its firewall.
pub(super) struct Pod {
    pub(super) name: String,
    /// Packets that its firewall has dropped.
    pub(super) dropped: Option<String>,
    pub(super) places: Vec<Place>,
}

/// One service.
#[derive(Clone, Default)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) state: State,
    /// The state in a word or two.
    pub(super) said: String,
    pub(super) role: Option<String>,
    pub(super) in_sync: Option<&'static str>,
    pub(super) lag: Option<String>,
    pub(super) in_flight: Option<String>,
    pub(super) rate: Option<String>,
    pub(super) connections: Option<String>,
    pub(super) epoch: Option<String>,
    pub(super) days: Option<String>,
}

/// How a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    Good,
    Doubtful,
    Bad,
    #[default]
    Unknown,
}

impl State {
    /// The class that the style sheet knows.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Doubtful => "warn",
            Self::Bad => "bad",
            Self::Unknown => "off",
        }
    }
}

/// A label and a figure.
pub(super) struct Figure<'a> {
    pub(super) label: &'static str,
    pub(super) value: &'a str,
}

impl Place {
    /// What is known of it, in the order of the table.
    pub(super) fn figures(&self) -> Vec<Figure<'_>> {
        let all = [
            ("in flight", self.in_flight.as_deref()),
            ("requests/s", self.rate.as_deref()),
            ("connections", self.connections.as_deref()),
            ("in sync", self.in_sync),
            ("behind", self.lag.as_deref()),
            ("epoch", self.epoch.as_deref()),
            ("certificate", self.days.as_deref()),
        ];
        let known = all.into_iter();
        known
            .filter_map(|(label, value)| {
                Some(Figure {
                    label,
                    value: value?,
                })
            })
            .collect()
    }
}

impl Picture {
    /// The picture; without samples, of what this web server knows.
    pub(super) fn of(samples: Option<&Samples>, own: &Own<'_>) -> Self {
        let nothing = Samples::default();
        let s = samples.unwrap_or(&nothing);
        let mut picture = Self {
            levels: vec![
                Level {
                    wire: "HTTPS",
                    pods: vec![pod(s, "pod-edge", balancers(s))],
                },
                Level {
                    wire: "mutual TLS",
                    pods: each(s, webs(s, own)),
                },
                Level {
                    wire: "mutual TLS, through the router in each web server",
                    pods: each(s, databases(s, own)),
                },
                Level {
                    wire: "beside the way of requests",
                    pods: vec![
                        pod(s, "pod-arbiter", vec![arbiter(s)]),
                        pod(s, "pod-telemetry", telemetry(samples.is_some())),
                    ],
                },
            ],
            troubles: Vec::new(),
        };
        picture.troubles = troubles(&picture, s);
        picture
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (&Pod, &Place)> {
        let pods = self.levels.iter().flat_map(|level| &level.pods);
        pods.flat_map(|pod| pod.places.iter().map(move |place| (pod, place)))
    }
}

/// A pod with its firewall's count.
fn pod(s: &Samples, name: &str, places: Vec<Place>) -> Pod {
    let firewall = format!("fw-{}", name.trim_start_matches("pod-"));
    let dropped = s.sum("firewall_dropped_packets_total", &[("instance", &firewall)]);
    Pod {
        name: name.to_owned(),
        dropped: dropped.map(whole),
        places,
    }
}

/// A pod for each.
fn each(s: &Samples, places: Vec<Place>) -> Vec<Pod> {
    let pods = places.into_iter();
    pods.map(|place| match place.name.as_str() {
        OTHERS => pod(s, "other pods", vec![place]),
        name => pod(s, &format!("pod-{name}"), vec![place]),
    })
    .collect()
}

fn balancers(s: &Samples) -> Vec<Place> {
    let mut names = s.values("up", &[("job", "balancer")], "instance");
    if names.is_empty() {
        names = s.values("balancer_in_flight", &[], "instance");
    }
    if names.is_empty() {
        return vec![unknown("balancers")];
    }
    let balancer = |name: &str| {
        let of = [("instance", name)];
        let (state, said) = answers(s, "balancer", name);
        Place {
            name: name.to_owned(),
            state,
            said,
            in_flight: s.sum("balancer_in_flight", &of).map(whole),
            rate: s.sum(RATE, &of).and_then(rate),
            connections: s.sum("balancer_connections", &of).map(whole),
            days: days(s, "balancer_certificate_days_left", name),
            ..Place::default()
        }
    };
    names.into_iter().map(balancer).collect()
}

fn webs(s: &Samples, own: &Own<'_>) -> Vec<Place> {
    let mut names = s.values("balancer_in_flight", &[], "backend");
    names.extend(s.values("up", &[("job", "web")], "instance"));
    names.push(own.instance);
    names.sort_unstable();
    names.dedup();
    let web = |name: &str| {
        let of = [("backend", name)];
        let (mut state, mut said) = answers(s, "web", name);
        // What the balancers think decides whether it gets requests.
        let seen = s.state("balancer_backend_state", &of, "state");
        if !seen.is_empty() && state != State::Bad {
            state = match *seen.as_slice() {
                ["up" | "standby"] => State::Good,
                ["down" | "ejected"] => State::Bad,
                _ => State::Doubtful,
            };
            said = seen.join(" or ");
        }
        if state == State::Unknown && name == own.instance {
            (state, said) = (State::Good, own.phase.to_owned());
        }
        Place {
            name: name.to_owned(),
            state,
            said,
            in_flight: s.sum("balancer_in_flight", &of).map(whole),
            rate: s.sum(RATE, &of).and_then(rate),
            days: days(s, "web_certificate_days_left", name),
            ..Place::default()
        }
    };
    let mut webs: Vec<_> = names.into_iter().map(web).collect();
    if s == &Samples::default() {
        webs.push(unknown(OTHERS));
    }
    webs
}

fn databases(s: &Samples, own: &Own<'_>) -> Vec<Place> {
    let database = |known: &router::ServerHealth| {
        let name = known.name.as_str();
        let of = [("server", name)];
        let primary = own.health.primary.as_deref();
        let role = match s.state("arbiter_role", &of, "role").first() {
            Some(&"none") => None,
            Some(role) => Some((*role).to_owned()),
            None => primary.map(|primary| {
                if primary == name {
                    "primary"
                } else {
                    "replica"
                }
                .to_owned()
            }),
        };
        // The arbiter's look, else this web server's own.
        let up = s
            .sum("arbiter_server_reachable", &of)
            .map_or(known.up, |reachable| reachable == 1.0);
        let is_replica = role.as_deref() == Some("replica");
        let lag = s
            .sum("arbiter_replica_lag_seconds", &[])
            .filter(|lag| *lag >= 0.0)
            .map(|seconds| format!("{:.0} ms", seconds * 1000.0))
            .or_else(|| known.lag_ms.map(|lag| format!("{lag} ms")));
        let in_sync = s
            .sum("arbiter_in_sync", &of)
            .map_or_else(|| own.health.in_sync.contains(&known.name), |is| is == 1.0);
        Place {
            name: name.to_owned(),
            state: if up { State::Good } else { State::Bad },
            said: if up { "up" } else { "away" }.to_owned(),
            role,
            in_sync: Some(if in_sync { "yes" } else { "no" }),
            lag: lag.filter(|_| is_replica),
            ..Place::default()
        }
    };
    own.health.servers.iter().map(database).collect()
}

fn arbiter(s: &Samples) -> Place {
    let (state, said) = answers(s, "arbiter", "arbiter");
    Place {
        name: "arbiter".to_owned(),
        state,
        said,
        epoch: s.sum("arbiter_epoch", &[]).map(whole),
        days: days(s, "arbiter_certificate_days_left", "arbiter"),
        ..Place::default()
    }
}

fn telemetry(answers: bool) -> Vec<Place> {
    let (state, said) = if answers {
        (State::Good, "answers")
    } else {
        (State::Bad, "no answer")
    };
    let prometheus = Place {
        name: "prometheus".to_owned(),
        state,
        said: said.to_owned(),
        ..Place::default()
    };
    vec![prometheus, unknown("jaeger")]
}

/// Whether Prometheus gets an answer from it.
fn answers(s: &Samples, job: &str, instance: &str) -> (State, String) {
    let (state, said) = match s.min("up", &[("job", job), ("instance", instance)]) {
        Some(1.0) => (State::Good, "up"),
        Some(_) => (State::Bad, "away"),
        None => (State::Unknown, "not known"),
    };
    (state, said.to_owned())
}

fn unknown(name: &str) -> Place {
    Place {
        name: name.to_owned(),
        said: "not watched".to_owned(),
        ..Place::default()
    }
}

fn troubles(picture: &Picture, s: &Samples) -> Vec<String> {
    let mut troubles = Vec::new();
    for (_, place) in picture.places() {
        match place.state {
            State::Bad if place.name != "prometheus" => {
                troubles.push(format!("{} is {}", place.name, place.said));
            }
            State::Doubtful => troubles.push(format!(
                "the balancers do not agree on {}: {}",
                place.name, place.said
            )),
            _ => {}
        }
    }
    let is = |name: &str, value: f64| s.sum(name, &[]) == Some(value);
    if is("arbiter_primary_open", 0.0) {
        troubles.push("no database server takes writes".to_owned());
    } else if is("arbiter_acknowledging", 0.0) {
        troubles.push("writes wait, for the replica does not acknowledge".to_owned());
    }
    if let Some(refusals) = s.sum("arbiter_refusals", &[]).filter(|count| *count > 0.0) {
        let what = "the arbiter waits for a person to look; ./stack status says at what";
        troubles.push(format!("{what} ({refusals})"));
    }
    for (name, service) in [
        ("balancer_certificate_days_left", "a balancer"),
        ("web_certificate_days_left", "a web server"),
        ("arbiter_certificate_days_left", "the arbiter"),
        ("firewall_certificate_days_left", "a firewall"),
    ] {
        if let Some(days) = s.min(name, &[]).filter(|days| *days < DAYS_FEW) {
            troubles.push(format!(
                "the certificate of {service} has {days} days left; ./stack up renews it"
            ));
        }
    }
    if s.min("firewall_rules_good", &[]) == Some(0.0) {
        troubles.push("a firewall's rules are not as they were loaded".to_owned());
    }
    for alert in s.values("ALERTS", &[], "alertname") {
        let whose = s.values("ALERTS", &[("alertname", alert)], "instance");
        troubles.push(match whose.as_slice() {
            [] => format!("the alert {alert} fires"),
            whose => format!("the alert {alert} fires for {}", whose.join(", ")),
        });
    }
    troubles
}

fn days(s: &Samples, name: &str, instance: &str) -> Option<String> {
    let days = s.min(name, &[("instance", instance)])?;
    Some(format!("{days:.0} days"))
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// Requests per second; none where there were too few scrapes to tell.
fn rate(value: f64) -> Option<String> {
    value.is_finite().then(|| format!("{value:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitoring::tests::samples;

    fn health() -> ClusterHealth {
        let server = |name: &str, lag_ms| router::ServerHealth {
            name: name.to_owned(),
            state: router::ServerState::Healthy,
            up: true,
            error: String::new(),
            lag_ms,
            in_use: 0,
            idle: 0,
            waiting: 0,
        };
        ClusterHealth {
            epoch: 1,
            primary: Some("mysql-1".to_owned()),
            writable: true,
            holding: false,
            in_sync: vec!["mysql-1".to_owned(), "mysql-2".to_owned()],
            servers: vec![server("mysql-1", None), server("mysql-2", Some(7))],
        }
    }

    fn own(health: &ClusterHealth) -> Own<'_> {
        Own {
            instance: "web-1",
            phase: "ready",
            health,
        }
    }

    fn place<'p>(picture: &'p Picture, name: &str) -> &'p Place {
        let mut places = picture.places();
        let found = places.find(|(_, place)| place.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).1
    }

    fn whole_stack() -> Samples {
        samples([
            (
                "up",
                &[("job", "balancer"), ("instance", "balancer-1")][..],
                1.0,
            ),
            (
                "up",
                &[("job", "balancer"), ("instance", "balancer-2")],
                1.0,
            ),
            ("up", &[("job", "web"), ("instance", "web-1")], 1.0),
            ("up", &[("job", "web"), ("instance", "web-2")], 1.0),
            ("up", &[("job", "arbiter"), ("instance", "arbiter")], 1.0),
            (
                "balancer_in_flight",
                &[("instance", "balancer-1"), ("backend", "web-1")],
                3.0,
            ),
            (
                "balancer_in_flight",
                &[("instance", "balancer-2"), ("backend", "web-1")],
                2.0,
            ),
            (
                "balancer_in_flight",
                &[("instance", "balancer-1"), ("backend", "web-2")],
                0.0,
            ),
            (
                RATE,
                &[("instance", "balancer-1"), ("backend", "web-1")],
                10.0,
            ),
            (
                RATE,
                &[("instance", "balancer-2"), ("backend", "web-1")],
                2.25,
            ),
            (
                "balancer_backend_state",
                &[
                    ("instance", "balancer-1"),
                    ("backend", "web-1"),
                    ("state", "up"),
                ],
                1.0,
            ),
            (
                "balancer_backend_state",
                &[
                    ("instance", "balancer-1"),
                    ("backend", "web-2"),
                    ("state", "up"),
                ],
                1.0,
            ),
            (
                "balancer_certificate_days_left",
                &[("instance", "balancer-1")],
                89.0,
            ),
            ("arbiter_epoch", &[], 4.0),
            ("arbiter_primary_open", &[], 1.0),
            ("arbiter_acknowledging", &[], 1.0),
            ("arbiter_refusals", &[], 0.0),
            ("arbiter_replica_lag_seconds", &[], 0.012),
            ("arbiter_server_reachable", &[("server", "mysql-1")], 1.0),
            ("arbiter_server_reachable", &[("server", "mysql-2")], 1.0),
            (
                "arbiter_role",
                &[("server", "mysql-1"), ("role", "replica")],
                1.0,
            ),
            (
                "arbiter_role",
                &[("server", "mysql-2"), ("role", "primary")],
                1.0,
            ),
            ("arbiter_in_sync", &[("server", "mysql-1")], 1.0),
            ("arbiter_in_sync", &[("server", "mysql-2")], 0.0),
            (
                "firewall_dropped_packets_total",
                &[("instance", "fw-edge"), ("direction", "in")],
                5.0,
            ),
            (
                "firewall_dropped_packets_total",
                &[("instance", "fw-edge"), ("direction", "out")],
                2.0,
            ),
        ])
    }

    #[test]
    fn the_figures_of_all_balancers_are_added_up_for_each_web_server() {
        let health = health();
        let picture = Picture::of(Some(&whole_stack()), &own(&health));
        let web = place(&picture, "web-1");
        assert_eq!(web.in_flight.as_deref(), Some("5"));
        assert_eq!(web.rate.as_deref(), Some("12.2"));
        assert_eq!(web.state, State::Good);
        let balancer = place(&picture, "balancer-1");
        assert_eq!(balancer.in_flight.as_deref(), Some("3"));
        assert_eq!(balancer.days.as_deref(), Some("89 days"));
        let (pod, _) = picture.places().next().unwrap();
        assert_eq!(
            (pod.name.as_str(), pod.dropped.as_deref()),
            ("pod-edge", Some("7"))
        );
        assert_eq!(pod.places.len(), 2);
        assert!(picture.troubles.is_empty(), "{:?}", picture.troubles);
    }

    #[test]
    fn the_arbiter_is_believed_about_databases_before_this_server() {
        let health = health();
        let picture = Picture::of(Some(&whole_stack()), &own(&health));
        let (one, two) = (place(&picture, "mysql-1"), place(&picture, "mysql-2"));
        assert_eq!(
            (one.role.as_deref(), one.lag.as_deref()),
            (Some("replica"), Some("12 ms"))
        );
        assert_eq!(
            (two.role.as_deref(), two.lag.as_deref()),
            (Some("primary"), None)
        );
        assert_eq!((one.in_sync, two.in_sync), (Some("yes"), Some("no")));
        assert_eq!(place(&picture, "arbiter").epoch.as_deref(), Some("4"));
    }

    #[test]
    fn without_monitoring_there_is_what_this_server_knows() {
        let health = health();
        let picture = Picture::of(None, &own(&health));
        assert_eq!(place(&picture, "web-1").said, "ready");
        assert_eq!(place(&picture, "balancers").state, State::Unknown);
        assert_eq!(place(&picture, "mysql-2").lag.as_deref(), Some("7 ms"));
        assert_eq!(place(&picture, "mysql-1").role.as_deref(), Some("primary"));
        assert_eq!(place(&picture, "prometheus").state, State::Bad);
        assert!(picture.troubles.is_empty(), "{:?}", picture.troubles);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let health = health();
        for (name, labels, value, said) in [
            (
                "up",
                &[("job", "web"), ("instance", "web-3")][..],
                0.0,
                "web-3 is away",
            ),
            (
                "arbiter_primary_open",
                &[],
                0.0,
                "no database server takes writes",
            ),
            ("arbiter_acknowledging", &[], 0.0, "writes wait"),
            ("arbiter_refusals", &[], 2.0, "(2)"),
            (
                "ALERTS",
                &[("alertname", "TargetDown"), ("instance", "web-2")],
                1.0,
                "the alert TargetDown fires for web-2",
            ),
            (
                "web_certificate_days_left",
                &[("instance", "web-1")],
                3.0,
                "3 days left",
            ),
            (
                "firewall_rules_good",
                &[("instance", "fw-edge")],
                0.0,
                "rules are not",
            ),
            (
                "arbiter_server_reachable",
                &[("server", "mysql-2")],
                0.0,
                "mysql-2 is away",
            ),
        ] {
            let samples = samples([(name, labels, value)]);
            let picture = Picture::of(Some(&samples), &own(&health));
            let found = picture
                .troubles
                .iter()
                .any(|trouble| trouble.contains(said));
            assert!(found, "{said} is not in {:?}", picture.troubles);
        }
        let apart = samples([
            (
                "balancer_backend_state",
                &[
                    ("instance", "balancer-1"),
                    ("backend", "web-1"),
                    ("state", "up"),
                ][..],
                1.0,
            ),
            (
                "balancer_backend_state",
                &[
                    ("instance", "balancer-2"),
                    ("backend", "web-1"),
                    ("state", "down"),
                ],
                1.0,
            ),
        ]);
        let picture = Picture::of(Some(&apart), &own(&health));
        assert_eq!(place(&picture, "web-1").state, State::Doubtful);
    }
}
