//! Are the addresses of the four networks free, or ours?

use std::net::Ipv4Addr;

use serde::Deserialize;

use super::Finding;
use crate::{command, settings::Settings};

const ABOUT: &str = "subnet";

/// An address range that somebody uses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    base: u32,
    bits: u32,
    by: String,
}

impl Taken {
    fn overlaps(&self, base: u32, bits: u32) -> bool {
        let shorter = self.bits.min(bits);
        shorter == 0 || (self.base ^ base) >> (32 - shorter) == 0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: String,
    labels: Option<std::collections::BTreeMap<String, String>>,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    config: Option<Vec<IpamConfig>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: Option<String>,
}

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let ids = command::output("docker", &["network", "ls", "--quiet"]).await;
    let ids = ids.unwrap_or_default();
    let mut arguments = vec!["network", "inspect"];
    arguments.extend(ids.split_whitespace());
    let networks = match command::output("docker", &arguments).await {
        Ok(text) => of_the_engine(&text, &settings.project),
        Err(_) => Vec::new(),
    };
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    vec![judge(&settings.subnet, &networks, &of_the_host(&routes))]
}

/// The networks of other projects, from `docker network inspect`.
fn of_the_engine(text: &str, project: &str) -> Vec<Taken> {
    let networks: Vec<Network> = serde_json::from_str(text).unwrap_or_default();
    let others = networks.into_iter().filter(|network| {
        let labels = network.labels.as_ref();
        labels
            .and_then(|labels| labels.get("com.docker.compose.project"))
            .map(String::as_str)
            != Some(project)
    });
    others
        .flat_map(|network| {
            let by = format!("the network {}", network.name);
            let configs = network.ipam.config.unwrap_or_default();
            configs.into_iter().filter_map(move |config| {
                let (base, bits) = range(&config.subnet?)?;
                Some(Taken {
                    base,
                    bits,
                    by: by.clone(),
                })
            })
        })
        .collect()
}

fn range(subnet: &str) -> Option<(u32, u32)> {
    let (base, bits) = subnet.split_once('/')?;
    let base: Ipv4Addr = base.parse().ok()?;
    let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
    Some((base.into(), bits))
}

/// The routes of the host, from /proc/net/route; the engine's own bridges aside, which are networks.
fn of_the_host(text: &str) -> Vec<Taken> {
    let rows = text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| {
        let interface = *row.first()?;
        if interface.starts_with("br-") || interface.starts_with("docker") {
            return None;
        }
        // In the host's byte order; every machine that this runs on is little-endian.
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
        let (base, mask) = (number(row.get(1)?)?, number(row.get(7)?)?);
        let by = format!("a route of this machine, by {interface}");
        // The default route is everybody's.
        (mask != 0).then(|| Taken {
            base,
            bits: mask.count_ones(),
            by,
        })
    })
    .collect()
}

fn judge(subnet: &str, networks: &[Taken], routes: &[Taken]) -> Finding {
    let cure = "set HOLDFAST_SUBNET in .env to two octets that nobody uses, such as 10.214";
    for network in 1..=4 {
        let address = format!("{subnet}.{network}.0/24");
        let Some((base, bits)) = range(&address) else {
            return Finding::fault(ABOUT, format!("{address} is no range of addresses"), cure);
        };
        if let Some(taken) = networks
            .iter()
            .chain(routes)
            .find(|taken| taken.overlaps(base, bits))
        {
            return Finding::fault(ABOUT, format!("{address} is used by {}", taken.by), cure);
        }
    }
    Finding::ok(
        ABOUT,
        format!("{subnet}.1 to {subnet}.4 are free, or this stack's"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    const NETWORKS: &str = r#"[
        {"Name":"bridge","Labels":{},"IPAM":{"Config":[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]}},
        {"Name":"host","Labels":null,"IPAM":{"Config":null}},
        {"Name":"holdfast_app","Labels":{"com.docker.compose.project":"holdfast"},"IPAM":{"Config":[{"Subnet":"10.213.2.0/24"}]}},
        {"Name":"shop_default","Labels":{"com.docker.compose.project":"shop"},"IPAM":{"Config":[{"Subnet":"10.214.0.0/20"}]}}]"#;

    const ROUTES: &str =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t0000D70A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
br-1234\t0001D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";

    #[test]
    fn networks_of_others_and_routes_are_in_the_way_and_ones_own_are_not() {
        let networks = of_the_engine(NETWORKS, "holdfast");
        let routes = of_the_host(ROUTES);
        let found = |subnet| judge(subnet, &networks, &routes);
        assert_eq!(found("10.213").severity, Severity::Ok);
        let taken = found("10.214");
        assert!(
            taken
                .found
                .contains("10.214.1.0/24 is used by the network shop_default"),
            "{taken:?}"
        );
        let taken = found("10.215");
        assert!(taken.found.contains("by tun0"), "{taken:?}");
        assert_eq!(found("172.17").severity, Severity::Fault);
        assert_eq!(found("ten").severity, Severity::Fault);
    }
}
