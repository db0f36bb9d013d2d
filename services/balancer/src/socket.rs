//! A TCP connection below TLS: counts what is written, and reads ahead where much is to come.
//!
//! The count says how far a request has come when a backend breaks off ([`Socket::closed_unheard`]). Reading ahead is for TLS, which asks
//! for 4 KiB at a time: once an answer has filled that, the next reads take [`AHEAD_BYTES`] from the kernel at once.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora_core::protocols::l4::ext::{TCP_INFO, get_tcp_info};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// How much is read ahead.
const AHEAD_BYTES: usize = 65_536;

/// A TCP connection.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    written: u64,
    /// What was read ahead. Without room but in the middle of something large.
    ahead: BytesMut,
    /// Whether the last read has filled all the room that it had.
    was_full: bool,
    has_ended: bool,
    was_reset: bool,
}

impl Socket {
    /// Takes a connection over.
    pub fn new(tcp: TcpStream) -> Socket {
        Socket {
            tcp,
            written: 0,
            ahead: BytesMut::new(),
            was_full: false,
            has_ended: false,
            was_reset: false,
        }
    }

    /// The same, of which this was read already.
    pub fn with_read(tcp: TcpStream, read: BytesMut) -> Socket {
        Socket {
            ahead: read,
            ..Socket::new(tcp)
        }
    }

    /// How many bytes were handed to the kernel so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether something is here that the kernel need not be asked for.
    pub fn has_read_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether something may be there to read, as far as the reactor has seen; asks to be woken if not.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(context)
    }

    /// Whether it is certain that the other end closed before any byte beyond the first `before` had reached it.
    ///
    /// It is when the end came in order: a FIN acknowledges all that was there when it was sent, so what it does not acknowledge was
    /// not read before it. A reset proves nothing, because the kernel does not look at what it acknowledges.
    pub fn closed_unheard(&self, before: u64) -> bool {
        // The kernel counts our SYN as a byte.
        let is_heard = |info: TCP_INFO| info.tcpi_bytes_acked > before + 1;
        self.has_ended
            && !self.was_reset
            && !get_tcp_info(self.tcp.as_raw_fd()).map_or(true, is_heard)
    }

    /// Reads to the end, or to an error, for the sake of what that tells.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended {
            self.ahead.clear();
            if ready!(self.poll_fill(context)).is_err() {
                break;
            }
        }
        Poll::Ready(())
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            // Told once, by whichever call comes first; after it, reads see an end like any other.
            self.was_reset |= error.kind() == io::ErrorKind::ConnectionReset;
        }
        result
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let len = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..len]);
        self.ahead.advance(len);
        if self.ahead.is_empty() && !self.was_full {
            self.ahead = BytesMut::new();
        }
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ahead.reserve(AHEAD_BYTES);
        let room = self.ahead.capacity();
        let read = ready!(poll_read_buf(
            Pin::new(&mut self.tcp),
            context,
            &mut self.ahead
        ));
        let len = self.note(read)?;
        self.has_ended |= len == 0;
        self.was_full = len == room;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            this.give(buffer);
            return Poll::Ready(Ok(()));
        }
        if this.was_full && buffer.remaining() < AHEAD_BYTES {
            ready!(this.poll_fill(context))?;
            this.give(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.tcp).poll_read(context, buffer));
        this.note(read)?;
        this.has_ended |= buffer.filled().len() == before && buffer.remaining() > 0;
        this.was_full = buffer.remaining() == 0 && buffer.filled().len() > before + 1;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(context, bytes));
        let written = self.note(written)?;
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(context, parts));
        let written = self.note(written)?;
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
