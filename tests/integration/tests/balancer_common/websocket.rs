//! WebSockets, frame by frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail, ensure};

use super::{Balancer, Conversation, Next, RawBackend, SOON, Wire, World};

/// A client's wish for one.
pub(crate) const UPGRADE: &str = "GET /socket HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A backend's consent.
pub(crate) const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A backend that says every frame of a client again, unmasked, and counts the closing frames that it gets.
pub(crate) async fn echo(mut on: Conversation, goodbyes: Arc<AtomicUsize>) -> Result<Next> {
    on.write(SWITCHED).await?;
    loop {
        let head = on.read_exactly(2).await?;
        let length = match head[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes(
                on.read_exactly(2).await?.try_into().expect("two bytes"),
            )),
            length => usize::from(length),
        };
        let mask = on.read_exactly(4).await?;
        let mut payload = on.read_exactly(length).await?;
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        if head[0] == 0x88 {
            ensure!(payload.starts_with(&1001_u16.to_be_bytes()), "{payload:?}");
            goodbyes.fetch_add(1, Ordering::SeqCst);
            return on.hold().await;
        }
        let mut frame = vec![head[0]];
        match length {
            0..126 => frame.push(length as u8),
            _ => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&payload);
        on.write(frame).await?;
    }
}

/// A client's frame with this text.
pub(crate) fn masked(text: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x82];
    match text.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(text.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// An open WebSocket.
pub(crate) struct WebSocket(Wire);

impl Balancer {
    /// A WebSocket to whichever backend gets it.
    pub(crate) async fn websocket(&self) -> Result<WebSocket> {
        let mut wire = self.wire().await?;
        wire.write(UPGRADE).await?;
        let head = wire.until("\r\n\r\n").await?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(WebSocket(wire))
    }
}

impl WebSocket {
    /// Whether what is said comes back.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.0.write(masked(b"ho")).await.is_ok()
            && self
                .0
                .exactly(4)
                .await
                .is_ok_and(|said| said == b"\x82\x02ho")
    }

    /// Says something; the status with which it was closed, if it was.
    pub(crate) async fn says(&mut self) -> Result<Option<u16>> {
        // Nobody may take it any more.
        let _ = self.0.write(masked(b"ho")).await;
        let head = self.0.exactly(4).await?;
        match head[0] {
            0x82 => Ok(None),
            0x88 => Ok(Some(u16::from_be_bytes([head[2], head[3]]))),
            _ => bail!("{}", head.escape_ascii()),
        }
    }

    /// The status with which it is closed, once it is.
    pub(crate) async fn closed(mut self) -> Result<u16> {
        let rest = self.0.rest(SOON).await?;
        let rest: Vec<u8> = rest.chars().map(|c| c as u8).collect();
        ensure!(
            rest.len() >= 4 && rest[0] == 0x88,
            "{}",
            rest.escape_ascii()
        );
        Ok(u16::from_be_bytes([rest[2], rest[3]]))
    }
}

impl World {
    /// A backend of the right role for WebSockets, which answers anything else with its name; and how many goodbyes it has got.
    pub(crate) fn echoing(&self, name: &str) -> Result<(RawBackend, Arc<AtomicUsize>)> {
        let goodbyes = Arc::new(AtomicUsize::new(0));
        let (counted, says) = (Arc::clone(&goodbyes), name.to_owned());
        let backend = self.raw_backend(name, move |mut on: Conversation| {
            let (counted, says) = (Arc::clone(&counted), says.clone());
            async move {
                if on.path() == "/socket" {
                    return echo(on, counted).await;
                }
                on.read_body().await?;
                on.answer(&says).await?;
                on.go_on()
            }
        })?;
        Ok((backend, goodbyes))
    }
}
