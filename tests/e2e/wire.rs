//! What somebody on the wire could read: nothing. Every pod's interfaces are listened to while requests, statements and spans flow.

use std::{collections::BTreeMap, net::UdpSocket};

use anyhow::{Result, ensure};
use chassis::matrix::matrix;
use harness::{capture::Capture, compose::Stack};

use crate::ledger::client::{Owner, key, whole};

/// What requests, statements, spans and metrics would show, were they plain.
const PLAIN: &[&str] = &[
    "HTTP/1.1",
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "COMMIT",
    "traceparent",
    "authorization",
    "idempotency-key",
    "resourceSpans",
    "# HELP ",
];

/// Sent in plain to every pod, where a rule drops it, to see that it would be seen.
const BAIT: &str = "holdfast bait: can you read this? SELECT 1";

pub(crate) async fn nothing_on_any_interface_is_in_plain_text(stack: &Stack) -> Result<()> {
    whole(stack).await?;
    let mut captures = BTreeMap::new();
    for (pod, description) in &matrix().pods {
        captures.insert(pod, Capture::begin(stack.pid(&description.owner)?)?);
    }
    let name = format!("Wiretap {}", uuid::Uuid::now_v7().simple());
    let owner = Owner::new(stack, &name).await?;
    let from = owner.open_account("Wiretapped", 1000).await?;
    let to = owner.open_account("Wiretapped", 0).await?;
    for _ in 0..20 {
        let answer = owner.transfer(&from, &to, 1, &key()).await?;
        ensure!(answer.status() == 201, "{answer:?}");
        owner.balance(&from).await?;
    }
    for (pod, description) in &matrix().pods {
        let network = description
            .hosts
            .keys()
            .next()
            .expect("a pod is on a network");
        let address = matrix()
            .address(stack.subnet(), pod, network)
            .expect("it has an address");
        UdpSocket::bind(("0.0.0.0", 0))?.send_to(BAIT.as_bytes(), (address, 9))?;
    }
    for (pod, capture) in captures {
        let packets = capture.end()?;
        // As it is written: a handshake names the protocol, in small letters, before anything is encrypted.
        let has = |packet: &[u8], text: &str| {
            packet
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        let (bait, others): (Vec<_>, Vec<_>) = packets.iter().partition(|packet| has(packet, BAIT));
        ensure!(
            !bait.is_empty(),
            "{pod}: plain text was sent there, and the capture missed it"
        );
        if pod != "pod-telemetry" {
            ensure!(
                others.len() > 20,
                "{pod}: only {} packets while all of this went on",
                others.len()
            );
        }
        for packet in others {
            let found = PLAIN
                .iter()
                .copied()
                .chain([name.as_str()])
                .find(|text| has(packet, text));
            ensure!(
                found.is_none(),
                "{pod}: {found:?} is on the wire: {}",
                packet.escape_ascii()
            );
        }
    }
    Ok(())
}
