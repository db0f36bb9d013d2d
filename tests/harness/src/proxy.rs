//! A TCP proxy on loopback that breaks a link as networks do: cut, silent, or slow, each direction for itself.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio::{join, select};

/// Chunks on their way in one direction: with 16 KiB a chunk, a link holds at most 1 MiB, then the sender has to wait.
const IN_FLIGHT_MAX: usize = 64;

/// Which way bytes go, seen from the client that connected to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server behind the proxy.
    ToServer,
    /// From the server back to the client.
    ToClient,
}

/// A proxy in front of one server. It starts whole; each fault stays until [`heal`](Proxy::heal). Dropping it cuts everything.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use harness::{Direction, Proxy};
///
/// let proxy = Proxy::start(([127, 0, 0, 1], 3306).into()).await?;
/// // … connect to proxy.port() …
/// proxy.freeze(Direction::ToClient); // the server hears us; we hear nothing, and no connection breaks
/// proxy.heal();                      // what was held back arrives
/// proxy.cut();                       // connections are reset, new ones too
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    open: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    cut: bool,
    to_server: Fault,
    to_client: Fault,
}

#[derive(Clone, Copy, Debug, Default)]
struct Fault {
    frozen: bool,
    delay: Duration,
}

impl Proxy {
    /// Listens on a port of its own on 127.0.0.1 and passes connections on to `server`, which need not be there yet.
    pub async fn start(server: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let faults = watch::Sender::new(Faults::default());
        let open = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(accept(listener, server, faults.clone(), Arc::clone(&open)));
        Ok(Proxy {
            address,
            faults,
            open,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`address`](Proxy::address), on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections that are open through it now.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Resets all connections, and each new one at once.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cut = true);
    }

    /// Holds back everything that goes in this direction; connections stay open, and new ones open. Both directions frozen is a network
    /// that drops every packet.
    pub fn freeze(&self, direction: Direction) {
        self.faults
            .send_modify(|faults| faults.of(direction).frozen = true);
    }

    /// Delivers what goes in this direction later by `delay`, in order and without making the link narrower.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.faults
            .send_modify(|faults| faults.of(direction).delay = delay);
    }

    /// Takes every fault back. What a freeze held back is delivered; what a cut closed stays closed.
    pub fn heal(&self) {
        self.faults
            .send_modify(|faults| *faults = Faults::default());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

impl Faults {
    fn of(&mut self, direction: Direction) -> &mut Fault {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn get(mut self, direction: Direction) -> Fault {
        *self.of(direction)
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    faults: watch::Sender<Faults>,
    open: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (faults, open) = (faults.subscribe(), Arc::clone(&open));
        tokio::spawn(async move {
            open.fetch_add(1, Ordering::AcqRel);
            pass(client, server, faults).await;
            open.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// One connection, until both sides have ended it or it is cut.
async fn pass(mut client: TcpStream, server: SocketAddr, faults: watch::Receiver<Faults>) {
    let mut watched = faults.clone();
    let mut cut = pin!(watched.wait_for(|faults| faults.cut));
    let mut server = select! {
        connected = TcpStream::connect(server) => match connected {
            Ok(server) => server,
            Err(_) => return,
        },
        _ = &mut cut => return reset(&client),
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    let forwarding = async {
        join!(
            forward(
                client_reads,
                server_writes,
                Direction::ToServer,
                faults.clone()
            ),
            forward(
                server_reads,
                client_writes,
                Direction::ToClient,
                faults.clone()
            ),
        )
    };
    select! {
        _ = forwarding => {}
        _ = cut => {
            reset(&client);
            reset(&server);
        }
    }
}

/// Makes the close that follows a reset: a cable that was pulled says no goodbye, and a reset is the nearest that loopback has.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction of one connection: a reader that stamps each chunk with its time of delivery, and a writer that keeps to it.
async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut faults: watch::Receiver<Faults>,
) {
    let (stamped, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(IN_FLIGHT_MAX);
    let delays = faults.clone();
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let delay = delays.borrow().get(direction).delay;
            if stamped
                .send((Instant::now() + delay, buffer[..read].to_vec()))
                .await
                .is_err()
            {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((when, chunk)) = due.recv().await {
            sleep_until(when).await;
            if faults
                .wait_for(|faults| !faults.get(direction).frozen)
                .await
                .is_err()
                || to.write_all(&chunk).await.is_err()
            {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::time::timeout;

    use super::*;
    use crate::wait_until;

    const SOON: Duration = Duration::from_secs(5);
    const SILENCE: Duration = Duration::from_millis(100);

    async fn echo_behind_a_proxy() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = stream.into_split();
                    tokio::io::copy(&mut reads, &mut writes).await
                });
            }
        });
        let proxy = Proxy::start(server).await.unwrap();
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, client)
    }

    async fn echoed(client: &mut TcpStream) -> std::io::Result<()> {
        client.write_all(b"ping").await?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.map(drop)
    }

    #[tokio::test]
    async fn a_cut_resets_open_and_new_connections_until_healed() {
        let (proxy, mut client) = echo_behind_a_proxy().await;
        echoed(&mut client).await.unwrap();
        assert_eq!(1, proxy.connections());

        proxy.cut();
        let mut byte = [0];
        assert_eq!(
            ErrorKind::ConnectionReset,
            client.read(&mut byte).await.unwrap_err().kind()
        );
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(matches!(
            timeout(SOON, late.read(&mut byte)).await.unwrap(),
            Ok(0) | Err(_)
        ));
        wait_until("no connection is left", SOON, async || {
            proxy.connections() == 0
        })
        .await
        .unwrap();

        proxy.heal();
        echoed(&mut TcpStream::connect(proxy.address()).await.unwrap())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_frozen_direction_delivers_everything_once_healed() {
        let (proxy, mut client) = echo_behind_a_proxy().await;
        for direction in [Direction::ToServer, Direction::ToClient] {
            proxy.freeze(direction);
            client.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            assert!(
                timeout(SILENCE, client.read_exact(&mut answer))
                    .await
                    .is_err(),
                "{direction:?} is not frozen"
            );
            proxy.heal();
            timeout(SOON, client.read_exact(&mut answer))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(b"ping", &answer);
        }
    }

    #[tokio::test]
    async fn a_delay_is_added_once_to_a_round_trip_and_not_to_each_chunk() {
        let (proxy, mut client) = echo_behind_a_proxy().await;
        proxy.delay(Direction::ToServer, SILENCE);
        let sent = Instant::now();
        for _ in 0..10 {
            client.write_all(&[0; 1024]).await.unwrap();
        }
        let mut answer = vec![0; 10 * 1024];
        timeout(SOON, client.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(
            (SILENCE..SILENCE * 5).contains(&sent.elapsed()),
            "{:?}",
            sent.elapsed()
        );
    }
}
