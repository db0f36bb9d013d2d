//! One connection, with or without TLS, that can be read and written at the same time within one task.
//!
//! Both directions of an exchange run in one task, so no lock is needed: what is inside is borrowed for the length of a poll.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::socket::Socket;

/// What is gathered before it is written, wherever something is.
pub const GATHER_BYTES: usize = 65_536;
/// How much room a read is given.
const READ_BYTES: usize = 16_384;
/// How much it is given in the middle of something large.
const MUCH_BYTES: usize = 65_536;
/// How much a read of a request's head is given.
const LITTLE_BYTES: usize = 2_048;

/// A connection.
#[derive(Debug)]
pub struct Stream {
    io: RefCell<Io>,
    /// Whether the last read has filled all of its room, so that TLS may have more that is decrypted already.
    was_full: Cell<bool>,
}

#[derive(Debug)]
enum Io {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// Without TLS.
    pub fn plain(socket: Socket) -> Stream {
        Stream {
            io: RefCell::new(Io::Plain(socket)),
            was_full: Cell::new(false),
        }
    }

    /// After the handshake.
    pub fn tls(stream: impl Into<TlsStream<Socket>>) -> Stream {
        Stream {
            io: RefCell::new(Io::Tls(Box::new(stream.into()))),
            // The handshake's last flight and the first request may have come together.
            was_full: Cell::new(true),
        }
    }

    /// How many bytes were handed to the kernel so far, what TLS adds included.
    pub fn written(&self) -> u64 {
        self.io.borrow().socket().written()
    }

    /// See [`Socket::closed_unheard`].
    pub fn closed_unheard(&self, before: u64) -> bool {
        self.io.borrow().socket().closed_unheard(before)
    }

    /// Waits for the end of TCP, whatever still comes before it.
    pub async fn end(&self) {
        poll_fn(|context| self.io.borrow_mut().socket_mut().poll_end(context)).await;
    }

    /// Waits until something may be there to read, without room for it.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut io = self.io.borrow_mut();
            if self.was_full.take() && io.has_plaintext()? {
                return Poll::Ready(Ok(()));
            }
            io.socket().poll_readable(context)
        })
        .await
    }

    /// Reads what is there into `buffer`, which is given this much room if it has less than a quarter of it; 0 bytes are the end.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let room = match self.was_full.get() {
            true => MUCH_BYTES,
            false => room,
        };
        if buffer.capacity() - buffer.len() < room / 4 {
            buffer.reserve(room);
        }
        let before = buffer.capacity() - buffer.len();
        let mut io = self.io.borrow_mut();
        let read = ready!(poll_read_buf(Pin::new(&mut *io), context, buffer));
        self.was_full.set(matches!(read, Ok(len) if len == before));
        let mut len = read?;
        // What was read ahead is decrypted without another look into the kernel. An error, or the end, comes again.
        while len > 0 && len < MUCH_BYTES && io.socket().has_read_ahead() {
            buffer.reserve(READ_BYTES);
            match poll_read_buf(Pin::new(&mut *io), context, buffer) {
                Poll::Ready(Ok(more @ 1..)) => len += more,
                _ => break,
            }
        }
        Poll::Ready(Ok(len))
    }

    /// Reads at least a byte into `buffer`; 0 bytes are the end.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub async fn read(&self, buffer: &RefCell<BytesMut>) -> io::Result<usize> {
        self.read_with(buffer, READ_BYTES).await
    }

    /// The same, where little is to be expected.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub async fn read_a_little(&self, buffer: &RefCell<BytesMut>) -> io::Result<usize> {
        self.read_with(buffer, LITTLE_BYTES).await
    }

    async fn read_with(&self, buffer: &RefCell<BytesMut>, room: usize) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, &mut buffer.borrow_mut(), room)).await
    }

    /// Whether it is open and silent, as one that nobody uses must be. Costs no look into the kernel unless the reactor has seen
    /// something; TLS's own messages are taken in.
    pub fn is_idle(&self) -> bool {
        let mut byte = [0; 1];
        let mut room = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut *self.io.borrow_mut())
            .poll_read(&mut context, &mut room)
            .is_pending()
    }

    /// Writes all of it, and sees it handed to the kernel.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|context| {
            let mut io = self.io.borrow_mut();
            while !bytes.is_empty() {
                let written = ready!(Pin::new(&mut *io).poll_write(context, bytes))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                bytes = &bytes[written..];
            }
            Pin::new(&mut *io).poll_flush(context)
        })
        .await
    }

    /// Writes some of it: what was taken may still be on its way to the kernel.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub async fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| {
            let written = ready!(Pin::new(&mut *self.io.borrow_mut()).poll_write(context, bytes))?;
            Poll::Ready(match written {
                0 => Err(io::ErrorKind::WriteZero.into()),
                written => Ok(written),
            })
        })
        .await
    }

    /// Sees what was written handed to the kernel.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io.borrow_mut()).poll_flush(context)
    }

    /// Closes our half in order.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut *self.io.borrow_mut()).poll_shutdown(context)).await
    }
}

impl Io {
    fn socket(&self) -> &Socket {
        match self {
            Io::Plain(socket) => socket,
            Io::Tls(stream) => stream.get_ref().0,
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Io::Plain(socket) => socket,
            Io::Tls(stream) => match &mut **stream {
                TlsStream::Client(stream) => stream.get_mut().0,
                TlsStream::Server(stream) => stream.get_mut().0,
            },
        }
    }

    /// Whether TLS has decrypted more than was read.
    fn has_plaintext(&mut self) -> io::Result<bool> {
        let Io::Tls(stream) = self else {
            return Ok(false);
        };
        let state = match &mut **stream {
            TlsStream::Client(stream) => stream.get_mut().1.process_new_packets(),
            TlsStream::Server(stream) => stream.get_mut().1.process_new_packets(),
        };
        let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Io::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Plain(socket) => Pin::new(socket).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
