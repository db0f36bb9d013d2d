//! A relay on loopback that counts round trips: how often the client begins to speak again after the server has answered.
//!
//! It understands nothing of what passes, so it counts the same in TLS, and whatever the packets are. A client that asks for one thing at
//! a time takes as many as it has to wait for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Accepts until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    turns: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Before the server at this port of loopback.
    pub(super) async fn start(server: u16) -> Result<Relay> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let turns = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&turns);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(
                    client,
                    ([127, 0, 0, 1], server).into(),
                    counter.clone(),
                ));
            }
        });
        Ok(Relay {
            port,
            turns,
            accepting,
        })
    }

    /// Where to connect to instead.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many round trips there were so far, on all connections.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, server: SocketAddr, turns: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // A server of MySQL speaks first: what the client says first is the first turn.
    let answered = AtomicBool::new(true);
    tokio::join!(
        copy(from_client, to_server, || {
            if answered.swap(false, Ordering::SeqCst) {
                turns.fetch_add(1, Ordering::SeqCst);
            }
        }),
        copy(from_server, to_client, || answered
            .store(true, Ordering::SeqCst)),
    );
}

/// Until one side closes; then the other is closed in this direction.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    on_chunk: impl Fn(),
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        on_chunk();
        if to.write_all(&chunk[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_one_turn_however_many_pieces_it_and_its_answer_have() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let relay = Relay::start(listener.local_addr().unwrap().port())
            .await
            .unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", relay.port()))
            .await
            .unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        for expected in 1..=3 {
            for _ in 0..2 {
                client.write_all(b"q").await.unwrap();
                server.read_exact(&mut byte).await.unwrap();
            }
            for _ in 0..2 {
                server.write_all(b"a").await.unwrap();
                client.read_exact(&mut byte).await.unwrap();
            }
            assert_eq!(expected, relay.turns());
        }
    }
}
