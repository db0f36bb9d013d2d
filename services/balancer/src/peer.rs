//! A backend as pingora connects to it: address, mutual TLS, timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use chassis::identity::Identity;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::backend::Backend;
use crate::config::Exchange;
use crate::edge::ms;

/// The kernel counts these in whole seconds.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
/// More than fit into `backend.gone_ms`, which is what ends a connection.
const KEEPALIVE_PROBES: usize = 60;

/// One peer for each backend, made when its address or our certificate changes and cloned for a request.
pub struct Peers {
    timeouts: Exchange,
    credentials: ArcSwap<Credentials>,
    cached: Vec<ArcSwapOption<Cached>>,
}

/// Our certificate and key, and the authority that backends are verified against.
struct Credentials {
    ours: Arc<CertKey>,
    authority: Arc<CaType>,
}

struct Cached {
    address: SocketAddr,
    credentials: Arc<Credentials>,
    peer: HttpPeer,
}

impl Peers {
    /// For as many backends.
    ///
    /// # Errors
    /// When the authority's file has gone since the identity was loaded.
    pub fn new(timeouts: Exchange, identity: &Identity, backends: usize) -> std::io::Result<Peers> {
        Ok(Peers {
            timeouts,
            credentials: ArcSwap::from_pointee(Credentials::of(identity)?),
            cached: (0..backends).map(|_| ArcSwapOption::empty()).collect(),
        })
    }

    /// From now on connects with another certificate. Connections that were made with the last one are not used again.
    ///
    /// # Errors
    /// As [`Peers::new`]; the last one stays.
    pub fn identity_changed(&self, identity: &Identity) -> std::io::Result<()> {
        self.credentials.store(Arc::new(Credentials::of(identity)?));
        Ok(())
    }

    /// The backend as a peer; `None` as long as its address is not known.
    pub fn peer(&self, backend: &Backend) -> Option<Box<HttpPeer>> {
        let address = backend.address()?;
        let slot = self.cached.get(backend.index())?;
        let credentials = self.credentials.load();
        if let Some(cached) = &*slot.load()
            && cached.address == address
            && Arc::ptr_eq(&cached.credentials, &credentials)
        {
            return Some(Box::new(cached.peer.clone()));
        }
        let peer = self.make(address, backend.name(), &credentials);
        slot.store(Some(Arc::new(Cached {
            address,
            credentials: Arc::clone(&credentials),
            peer: peer.clone(),
        })));
        Some(Box::new(peer))
    }

    fn make(&self, address: SocketAddr, name: &str, credentials: &Credentials) -> HttpPeer {
        let mut peer = HttpPeer::new_mtls(address, name.to_owned(), Arc::clone(&credentials.ours));
        let options = &mut peer.options;
        options.ca = Some(Arc::clone(&credentials.authority));
        options.verify_cert = true;
        options.verify_hostname = true;
        options.set_http_version(1, 1);
        options.connection_timeout = Some(ms(self.timeouts.connect_timeout_ms));
        options.total_connection_timeout = Some(ms(self.timeouts.handshake_timeout_ms));
        options.read_timeout = Some(ms(self.timeouts.answer_timeout_ms));
        options.write_timeout = Some(ms(self.timeouts.write_timeout_ms));
        // A machine that is gone sends no reset: without this a request that it has read would wait for its whole time.
        let gone = ms(self.timeouts.gone_ms);
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: gone.div_f32(2.0).max(KEEPALIVE_MIN),
            interval: KEEPALIVE_MIN,
            count: KEEPALIVE_PROBES,
            user_timeout: gone,
        });
        options.idle_timeout = Some(std::time::Duration::from_secs(self.timeouts.idle_s));
        peer
    }
}

impl Credentials {
    fn of(identity: &Identity) -> std::io::Result<Credentials> {
        let authority: Vec<WrappedX509> =
            CertificateDer::pem_slice_iter(&std::fs::read(identity.ca_path())?)
                .map(|certificate| {
                    certificate.map(|der| WrappedX509::new(der.to_vec(), parse_x509))
                })
                .collect::<Result<_, _>>()
                .map_err(std::io::Error::other)?;
        let chain = identity.chain().iter().map(|der| der.to_vec()).collect();
        let ours = CertKey::new(chain, identity.key().secret_der().to_vec());
        Ok(Credentials {
            ours: Arc::new(ours),
            authority: authority.into(),
        })
    }
}
