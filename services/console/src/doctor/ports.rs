//! Are the four published ports free, or ours?

use std::{io, net::TcpListener};

use super::Finding;
use crate::{command, settings::Settings};

const ABOUT: &str = "ports";

/// Where the pages of Jaeger and Prometheus are, whatever `HOLDFAST_BIND` says.
const LOOPBACK: &str = "127.0.0.1";

/// Whether a port can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Use {
    Free,
    /// By a container: its project in Compose (or nothing), and its name.
    Container(String, String),
    /// By something else, as far as it is known.
    Process(String),
    /// The address is none of this machine's.
    NoSuchAddress,
    /// Not for this user.
    Forbidden,
}

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let ports = [
        (
            "HOLDFAST_HTTPS_PORT",
            settings.bind.as_str(),
            settings.ports[0],
        ),
        (
            "HOLDFAST_HTTP_PORT",
            settings.bind.as_str(),
            settings.ports[1],
        ),
        ("HOLDFAST_JAEGER_PORT", LOOPBACK, settings.jaeger_port),
        (
            "HOLDFAST_PROMETHEUS_PORT",
            LOOPBACK,
            settings.prometheus_port,
        ),
    ];
    let [https, http, jaeger, prometheus] = ports.map(|(variable, bind, port)| async move {
        let found = look(bind, port).await;
        judge(&settings.project, variable, bind, port, found)
    });
    let (https, http, jaeger, prometheus) = tokio::join!(https, http, jaeger, prometheus);
    vec![https, http, jaeger, prometheus]
}

async fn look(bind: &str, port: u16) -> Use {
    let filter = format!("publish={port}");
    let format = r#"{{.Label "com.docker.compose.project"}} {{.Names}}"#;
    let arguments = ["ps", "--filter", &filter, "--format", format];
    let containers = command::output("docker", &arguments)
        .await
        .unwrap_or_default();
    if let Some((project, name)) = containers.lines().find_map(|line| line.split_once(' ')) {
        return Use::Container(project.to_owned(), name.to_owned());
    }
    match TcpListener::bind((bind, port)).map_err(|error| error.kind()) {
        Ok(_) => Use::Free,
        Err(io::ErrorKind::AddrNotAvailable) => Use::NoSuchAddress,
        // Below 1024 the engine can what this user cannot.
        Err(io::ErrorKind::PermissionDenied) => Use::Forbidden,
        Err(_) => {
            let source = format!("sport = :{port}");
            let sockets = command::output("ss", &["-Hltnp", &source]).await;
            Use::Process(owner(&sockets.unwrap_or_default()))
        }
    }
}

/// The program in a line of `ss -p`: `users:(("nginx",pid=12,fd=6))`.
fn owner(sockets: &str) -> String {
    let after = sockets.split_once("users:((\"");
    let program = after.and_then(|(_, rest)| rest.split_once("\",pid="));
    match program {
        Some((name, rest)) => {
            let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
            format!("{name} (process {pid})")
        }
        None => "another program".to_owned(),
    }
}

fn judge(project: &str, variable: &str, bind: &str, port: u16, found: Use) -> Finding {
    let at = format!("{bind}:{port}");
    let move_it = format!("stop it, or set {variable} to another port in .env");
    match found {
        Use::Free => Finding::ok(ABOUT, format!("{at} is free")),
        Use::Container(theirs, _) if theirs == project => {
            Finding::ok(ABOUT, format!("{at} is this stack's"))
        }
        Use::Container(_, name) => Finding::fault(
            ABOUT,
            format!("{at} is taken by the container {name}"),
            move_it,
        ),
        Use::Process(program) => {
            Finding::fault(ABOUT, format!("{at} is taken by {program}"), move_it)
        }
        Use::NoSuchAddress => Finding::fault(
            ABOUT,
            format!("{bind} is no address of this machine"),
            "set HOLDFAST_BIND in .env to one that is, or leave it out for 127.0.0.1",
        ),
        Use::Forbidden => Finding::ok(
            ABOUT,
            format!("{at} is for the engine to have; this user may not try"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn whoever_has_the_port_is_named_unless_it_is_this_stack() {
        let judge = |found| judge("holdfast", "HOLDFAST_HTTPS_PORT", LOOPBACK, 8443, found);
        let container = |project: &str| Use::Container(project.to_owned(), "x-1".to_owned());
        assert_eq!(judge(Use::Free).severity, Severity::Ok);
        assert_eq!(judge(container("holdfast")).severity, Severity::Ok);
        let taken = judge(container("other"));
        assert_eq!(taken.severity, Severity::Fault);
        assert!(taken.found.contains("container x-1"), "{taken:?}");
        assert!(taken.cure.contains("HOLDFAST_HTTPS_PORT"), "{taken:?}");
    }

    #[test]
    fn the_program_is_read_from_the_list_of_sockets() {
        let line = r#"LISTEN 0 5 127.0.0.1:8443 0.0.0.0:* users:(("python3",pid=4711,fd=3))"#;
        assert_eq!(owner(line), "python3 (process 4711)");
        assert_eq!(owner(""), "another program");
    }

    #[tokio::test]
    async fn a_port_that_is_listened_on_is_taken() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(matches!(look("127.0.0.1", port).await, Use::Process(_)));
        drop(listener);
        assert_eq!(look("127.0.0.1", port).await, Use::Free);
        assert_eq!(look("192.0.2.1", port).await, Use::NoSuchAddress);
    }
}
