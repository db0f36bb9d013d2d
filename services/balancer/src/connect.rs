//! Connecting to a backend: TCP, then mutual TLS in which its name and role are verified.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chassis::identity::Identity;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::ext::set_tcp_keepalive;
use rustls::{CertificateError, ClientConfig, Error as TlsError};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::backend::Backend;
use crate::backend_connection::BackendConnection;
use crate::clock::Clock;
use crate::config::{BackendTls, Exchange};
use crate::edge::ms;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::termination::Termination;

/// The kernel counts these in whole seconds.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
/// More than fit into `backend.gone_ms`, which is what ends a connection.
const KEEPALIVE_PROBES: usize = 60;

/// How backends are reached with one identity.
#[derive(Debug)]
pub struct Connector {
    tls: Option<Arc<ClientConfig>>,
    generation: u64,
}

impl Connector {
    /// With this identity, the `generation`th.
    pub fn new(identity: &Identity, config: &Exchange, generation: u64) -> Connector {
        Connector {
            tls: match config.tls {
                BackendTls::Mutual => {
                    Some(identity.client_config(Some(&config.role), &[b"http/1.1"]))
                }
                BackendTls::Off => None,
            },
            generation,
        }
    }

    /// Which one it is. Connections that another one has made are not used again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A new connection.
    ///
    /// # Errors
    /// Why there is none. Nothing of a request was sent.
    pub async fn connect(
        &self,
        backend: &Backend,
        address: SocketAddr,
        config: &Exchange,
        clock: &std::rc::Rc<Clock>,
    ) -> Result<BackendConnection, Termination> {
        let alarm = clock.alarm();
        let due = clock.after(ms(config.handshake_timeout_ms));
        let limit = ms(config.connect_timeout_ms);
        let tcp = match alarm.within(limit, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(Termination::ConnectTimeout);
            }
            Ok(Err(_)) => return Err(Termination::ConnectRefused),
            Err(_) => return Err(Termination::ConnectTimeout),
        };
        prepare(&tcp, ms(config.gone_ms)).map_err(|_| Termination::ConnectRefused)?;
        let socket = Socket::new(tcp);
        let stream = match &self.tls {
            None => Stream::plain(socket),
            Some(tls) => {
                let shake = shake(Arc::clone(tls), backend, socket);
                match alarm.until(due, shake).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return Err(fault_of_handshake(&error)),
                    Err(_) => return Err(Termination::ConnectTimeout),
                }
            }
        };
        Ok(BackendConnection::new(
            stream,
            backend.id(),
            address,
            self.generation,
            (alarm, clock.alarm()),
        ))
    }
}

async fn shake(tls: Arc<ClientConfig>, backend: &Backend, socket: Socket) -> io::Result<Stream> {
    let name = ServerName::try_from(backend.member().tls_name.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, socket).await?;
    Ok(Stream::tls(stream))
}

/// A machine that is gone sends no reset: without the time limit a request that it has read would wait for its whole time.
fn prepare(tcp: &TcpStream, gone: Duration) -> pingora_core::Result<()> {
    let _ = tcp.set_nodelay(true);
    let keepalive = TcpKeepalive {
        idle: gone.div_f32(2.0).max(KEEPALIVE_MIN),
        interval: KEEPALIVE_MIN,
        count: KEEPALIVE_PROBES,
        user_timeout: gone,
    };
    set_tcp_keepalive(tcp, &keepalive)
}

/// Why a handshake failed. The identity's verifier says of a wrong role what it says of nothing else.
fn fault_of_handshake(error: &io::Error) -> Termination {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            Termination::WrongRole
        }
        Some(_) => Termination::TlsFailure,
        None if error.kind() == io::ErrorKind::UnexpectedEof => Termination::TlsFailure,
        None => Termination::ConnectRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_role_is_told_from_a_certificate_that_is_wrong_otherwise() {
        let of = |error| fault_of_handshake(&io::Error::new(io::ErrorKind::InvalidData, error));
        let invalid = TlsError::InvalidCertificate;
        assert_eq!(
            Termination::WrongRole,
            of(invalid(CertificateError::ApplicationVerificationFailure))
        );
        assert_eq!(
            Termination::TlsFailure,
            of(invalid(CertificateError::UnknownIssuer))
        );
        assert_eq!(
            Termination::ConnectRefused,
            fault_of_handshake(&io::ErrorKind::ConnectionReset.into())
        );
    }
}
