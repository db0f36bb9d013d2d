//! Whether this process still has a network.
//!
//! A service of a pod lives in the network namespace that the pod's owner made. When the owner is started anew, it makes another one,
//! and the service is left in the old one with nothing but the loopback, where its own health checks go on being green. So it ends,
//! and the restart policy starts it again: in the new namespace.

use std::{fs, io, time::Duration};

use tokio::time::Instant;

/// Where the kernel lists the interfaces of this process's namespace: two lines of heading, then `name: numbers`.
const INTERFACES: &str = "/proc/self/net/dev";

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long nothing but the loopback may be seen: interfaces come one after the other when a container starts.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends this process once its network is gone. For services that live in a pod: `tokio::spawn(chassis::namespace::end_with_it())`.
pub async fn end_with_it() {
    gone().await;
    tracing::error!("the network of this pod is gone; ending, to be started again in the new one");
    std::process::exit(1);
}

/// Resolves when no interface but the loopback has been seen for two seconds. A namespace that never had another one has not lost any;
/// but in a container, whose first process this is, it was lost before the first look.
pub async fn gone() {
    let mut had_one = std::process::id() == 1;
    let mut alone_since = None;
    loop {
        let alone = match fs::read_to_string(INTERFACES) {
            Ok(text) => only_loopback(&text),
            Err(error) => {
                said_once(&error);
                false
            }
        };
        let now = Instant::now();
        match (alone, alone_since) {
            (false, _) => {
                had_one = true;
                alone_since = None;
            }
            (true, _) if !had_one => {}
            (true, None) => alone_since = Some(now),
            (true, Some(since)) if now.duration_since(since) >= PATIENCE => return,
            (true, Some(_)) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn said_once(error: &io::Error) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(
        || tracing::warn!(%error, "{INTERFACES} cannot be read; a lost network goes unnoticed"),
    );
}

fn only_loopback(interfaces: &str) -> bool {
    let mut names = interfaces
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.all(|name| name == "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n";

    #[test]
    fn an_interface_beside_the_loopback_is_a_network() {
        let lo = "    lo: 1180 14 0 0 0 0 0 0 1180 14 0 0 0 0 0 0\n";
        let eth = "  eth0: 1180 14 0 0 0 0 0 0 1180 14 0 0 0 0 0 0\n";
        assert!(only_loopback(&format!("{HEADING}{lo}")));
        assert!(!only_loopback(&format!("{HEADING}{lo}{eth}")));
        assert!(only_loopback(HEADING));
    }
}
