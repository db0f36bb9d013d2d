//! What goes over a namespace's interfaces, packet by packet, as a listener on the wire would have it. Needs root.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result, ensure};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        socket::{
            AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};

/// The loopback is the first interface of every namespace.
const LOOPBACK: usize = 1;

/// How much is kept: a test that has more to say should say it in less time.
const KEPT_BYTES: usize = 64 << 20;

/// How often the end is looked for, in milliseconds, when nothing comes.
const LOOK_MS: i64 = 50;

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Result<Vec<Vec<u8>>>>,
}

impl Capture {
    /// Begins to keep every packet on every interface but the loopback, in the namespace of a process. It has begun when this returns.
    ///
    /// # Errors
    /// Without root, or when there is no such process.
    pub fn begin(pid: u32) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let reader = std::thread::spawn({
            let stop = Arc::clone(&stop);
            // A thread of its own: it stays in that namespace until it ends.
            move || read(pid, &stop, &ready)
        });
        if is_ready.recv().is_err() {
            return match reader.join() {
                Ok(Err(error)) => Err(error),
                _ => anyhow::bail!("the capture ended before it began"),
            };
        }
        Ok(Self { stop, reader })
    }

    /// Ends it, and gives the packets.
    ///
    /// # Errors
    /// When it had failed, or had to stop for want of room.
    pub fn end(self) -> Result<Vec<Vec<u8>>> {
        self.stop.store(true, Ordering::Relaxed);
        let packets = self.reader.join();
        packets.map_err(|_| anyhow::anyhow!("the capture panicked"))?
    }
}

fn read(pid: u32, stop: &AtomicBool, ready: &mpsc::Sender<()>) -> Result<Vec<Vec<u8>>> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let namespace =
        File::open(&path).with_context(|| format!("open {}: this needs root", path.display()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the namespace: this needs root")?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .context("listen to all packets: this needs root")?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(LOOK_MS))?;
    let _ = ready.send(());
    let mut packets = Vec::new();
    let mut kept = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((bytes, from)) => {
                if from.is_none_or(|from| from.ifindex() == LOOPBACK) {
                    continue;
                }
                kept += bytes;
                ensure!(
                    kept <= KEPT_BYTES,
                    "more than {KEPT_BYTES} bytes in one capture"
                );
                packets.push(buffer[..bytes].to_vec());
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(packets);
                }
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}
