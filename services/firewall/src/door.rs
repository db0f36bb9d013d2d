//! A door: mutual TLS with a check of the caller's role outside, plain TCP on the pod's loopback inside. For programs that cannot check
//! roles themselves. It reads nothing of what goes through.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config,
    metrics::{DOOR_FAILURES, Metrics},
};

/// How much is carried at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// After an error of the listener, which passes: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One port of the door.
#[derive(Debug)]
pub struct Passage {
    /// What the port is for, as the matrix calls it.
    pub port: String,
    /// Who is behind it.
    pub to: SocketAddr,
    /// Who gets in; replaced when the certificate is.
    pub tls: Arc<ArcSwap<ServerConfig>>,
    /// Its bounds.
    pub limits: config::Door,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Passage {
    /// Lets through until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.limits.connections_max));
        let passage = Arc::new(self);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                let full = &passage.metrics.door_full;
                full.with_label_values(&[passage.port.as_str()]).inc();
                continue;
            };
            let passage = Arc::clone(&passage);
            tokio::spawn(async move {
                let _place = place;
                let open = passage
                    .metrics
                    .door_connections
                    .with_label_values(&[passage.port.as_str()]);
                open.inc();
                passage.one(stream, peer).await;
                open.dec();
            });
        }
    }

    async fn one(&self, stream: TcpStream, peer: SocketAddr) {
        let [handshake, late, nobody] = DOOR_FAILURES;
        let _ = stream.set_nodelay(true);
        let accept = TlsAcceptor::from(self.tls.load_full()).accept(stream);
        let outside = match timeout(ms(self.limits.handshake_timeout_ms), accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a TLS handshake failed");
                return self.failed(handshake);
            }
            Err(_) => return self.failed(late),
        };
        let connect = TcpStream::connect(self.to);
        let inside = match timeout(ms(self.limits.connect_timeout_ms), connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => return self.failed(nobody),
        };
        let _ = inside.set_nodelay(true);
        carry(outside, inside, ms(self.limits.idle_timeout_ms)).await;
    }

    fn failed(&self, reason: &str) {
        self.metrics
            .door_failures
            .with_label_values(&[self.port.as_str(), reason])
            .inc();
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Carries bytes both ways, until both sides have ended, one has failed, or none has said anything for `idle`.
async fn carry(
    outside: impl AsyncRead + AsyncWrite,
    inside: impl AsyncRead + AsyncWrite,
    idle: Duration,
) {
    let (outside_read, outside_write) = split(outside);
    let (inside_read, inside_write) = split(inside);
    let last = LastByte::now();
    let (last_in, last_out) = (&last, &last);
    let _ = tokio::try_join!(
        one_way(outside_read, inside_write, last_in, idle),
        one_way(inside_read, outside_write, last_out, idle),
    );
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    last: &LastByte,
    idle: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let left = idle.saturating_sub(last.since());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The other direction may have had a byte meanwhile.
        let Ok(read) = timeout(left, from.read(&mut buffer)).await else {
            continue;
        };
        let read = read?;
        last.is_now();
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        timeout(idle, async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        })
        .await??;
        last.is_now();
    }
}

/// When a byte was last carried, in either direction.
struct LastByte {
    begun: Instant,
    after_ms: AtomicU64,
}

impl LastByte {
    fn now() -> Self {
        Self {
            begun: Instant::now(),
            after_ms: AtomicU64::new(0),
        }
    }

    fn is_now(&self) {
        let after = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.after_ms.store(after, Ordering::Relaxed);
    }

    fn since(&self) -> Duration {
        self.begun
            .elapsed()
            .saturating_sub(ms(self.after_ms.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_end_is_passed_on() {
        let (mut caller, outside) = duplex(64);
        let (inside, mut behind) = duplex(64);
        let carried = tokio::spawn(carry(outside, inside, Duration::from_secs(60)));
        caller.write_all(b"question").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut text = String::new();
        behind.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        behind.write_all(b"answer").await.unwrap();
        behind.shutdown().await.unwrap();
        text.clear();
        caller.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "answer");
        carried.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_cut_and_who_hears_something_is_not() {
        let idle = Duration::from_secs(10);
        let (caller, outside) = duplex(64);
        let (inside, mut behind) = duplex(64);
        let begun = Instant::now();
        let carried = tokio::spawn(carry(outside, inside, idle));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(8)).await;
            behind.write_all(b"x").await.unwrap();
        }
        carried.await.unwrap();
        let took = begun.elapsed();
        assert!((34..36).contains(&took.as_secs()), "{took:?}");
        drop(caller);
    }
}
