//! A service's identity: its certificate, its key, the authority that it trusts, its secrets; and TLS made from them.
//!
//! The files lie in one directory, `current`, a link that a rotation points elsewhere in one step: nobody reads half a pair. A role
//! is the subject's common name; [`Identity::server_config`] and [`Identity::client_config`] check it beside the chain and the name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How often a watch looks whether `current` points elsewhere.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or may not be read.
    #[error("{}: {source}; has `pki` written this consumer's files, readable by this user?", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what its name says.
    #[error("{}: {reason}; run `./stack up` to have it written again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Who may connect to a server.
#[derive(Clone, Copy, Debug)]
pub enum Clients<'a> {
    /// Anybody, without a certificate: browsers.
    Anybody,
    /// Who presents a certificate of our authority with one of these roles.
    Roles(&'a [&'a str]),
}

/// One consistent set of certificate, key and authority, read at one time.
#[derive(Debug)]
pub struct Identity {
    directory: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    not_after: i64,
}

impl Identity {
    /// Reads and checks `ca.crt`, `tls.crt` and `tls.key` in `directory`: the key belongs to the certificate, and the certificate to
    /// a chain that can be parsed. Follows the link once, so that all come from one rotation.
    ///
    /// # Errors
    /// Names the file and what to do.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Unreadable { path, source }
        };
        let directory = fs::canonicalize(directory).map_err(unreadable(directory))?;
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map_err(unreadable(&path))
        };
        let invalid = |name: &str, reason: String| IdentityError::Invalid {
            path: directory.join(name),
            reason,
        };
        let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>, IdentityError> {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(name)?)
                .collect::<Result<_, _>>()
                .map_err(|error| invalid(name, format!("not PEM: {error}")))?;
            if chain.is_empty() {
                return Err(invalid(name, "holds no certificate".to_owned()));
            }
            Ok(chain)
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.crt")? {
            roots
                .add(certificate)
                .map_err(|error| invalid("ca.crt", error.to_string()))?;
        }
        let chain = certificates("tls.crt")?;
        let key = PrivateKeyDer::from_pem_slice(&read("tls.key")?)
            .map_err(|error| invalid("tls.key", format!("not a private key in PEM: {error}")))?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider())
            .map_err(|error| invalid("tls.key", format!("not the key of tls.crt: {error}")))?;
        let (_, leaf) = X509Certificate::from_der(&chain[0])
            .map_err(|error| invalid("tls.crt", error.to_string()))?;
        let not_after = leaf.validity().not_after.timestamp();
        Ok(Self {
            directory,
            chain,
            key,
            roots: Arc::new(roots),
            not_after,
        })
    }

    /// TLS 1.2 and 1.3 for a server, offering the protocols of `alpn` in this order.
    #[must_use]
    pub fn server_config(&self, clients: Clients<'_>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3");
        let builder = match clients {
            Clients::Anybody => builder.with_no_client_auth(),
            Clients::Roles(roles) => {
                let inner =
                    WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
                        .build()
                        .expect("the authority was checked when it was loaded");
                builder.with_client_cert_verifier(Arc::new(ClientRole {
                    inner,
                    roles: roles.iter().map(|&role| role.to_owned()).collect(),
                }))
            }
        };
        let mut config = builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("the pair was checked when it was loaded");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// TLS for a client that presents our certificate and trusts our authority alone; the server's name is checked, and its role
    /// where one is given.
    #[must_use]
    pub fn client_config(&self, server_role: Option<&str>, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let inner = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .expect("the authority was checked when it was loaded");
        let verifier = ServerRole {
            inner,
            role: server_role.map(str::to_owned),
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .expect("the pair was checked when it was loaded");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// The directory that this was read from, links resolved.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Our certificate chain, PEM, leaf first.
    #[must_use]
    pub fn cert_path(&self) -> PathBuf {
        self.directory.join("tls.crt")
    }

    /// Our private key, PEM.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.directory.join("tls.key")
    }

    /// Our certificate chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Our private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The authorities that we trust.
    #[must_use]
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// A secret as text, without a line end.
    ///
    /// # Errors
    /// When there is no such file, or it is not text.
    pub fn secret(&self, name: &str) -> Result<String, IdentityError> {
        let path = self.directory.join("secrets").join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(source) => Err(IdentityError::Unreadable { path, source }),
        }
    }

    /// Whole days until our certificate expires; negative when it has.
    #[must_use]
    pub fn days_left(&self) -> i64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().cast_signed());
        (self.not_after - now).div_euclid(86_400)
    }
}

/// An identity that follows its files: when `current` points elsewhere, the new set is loaded; a bad one is reported and the last
/// good one kept.
#[derive(Clone, Debug)]
pub struct IdentityWatch {
    link: PathBuf,
    identity: Arc<ArcSwap<Identity>>,
}

impl IdentityWatch {
    /// Loads the first set.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        Ok(Self {
            link: directory.to_owned(),
            identity: Arc::new(ArcSwap::from_pointee(Identity::load(directory)?)),
        })
    }

    /// The last good set.
    #[must_use]
    pub fn current(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// TLS for a client of servers of this role that speak HTTP/1.1, made anew from the last good set whenever it is asked for.
    pub fn client_of(
        &self,
        server_role: &'static str,
    ) -> impl Fn() -> Arc<ClientConfig> + Send + 'static {
        let watch = self.clone();
        move || {
            let identity = watch.current();
            identity.client_config(Some(server_role), &[b"http/1.1"])
        }
    }

    /// Looks once. Returns the new set if there is one.
    ///
    /// # Errors
    /// When the new files are bad; the last good ones stay in force.
    pub fn look(&self) -> Result<Option<Arc<Identity>>, IdentityError> {
        let there = fs::canonicalize(&self.link).map_err(|source| IdentityError::Unreadable {
            path: self.link.clone(),
            source,
        })?;
        if there == self.identity.load().directory {
            return Ok(None);
        }
        let identity = Arc::new(Identity::load(&self.link)?);
        self.identity.store(identity.clone());
        Ok(Some(identity))
    }

    /// Looks every two seconds and calls `changed` with every new set; runs until it is dropped.
    pub async fn follow(&self, mut changed: impl FnMut(Arc<Identity>)) {
        let mut failed = false;
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            match self.look() {
                Ok(Some(identity)) => {
                    tracing::info!(days_left = identity.days_left(), "certificate replaced");
                    failed = false;
                    changed(identity);
                }
                Ok(None) => failed = false,
                // Said once, not every two seconds.
                Err(error) if !failed => {
                    tracing::error!(%error, "a new certificate is not usable; the last good one stays");
                    failed = true;
                }
                Err(_) => {}
            }
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The role in a certificate: the subject's common name.
#[must_use]
pub fn role_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

static ROLE_REFUSALS: AtomicU64 = AtomicU64::new(0);

/// How many certificates of our authority this process has refused for their role: a metric of every service,
/// `<service>_role_refusals_total`.
#[must_use]
pub fn role_refusals() -> u64 {
    ROLE_REFUSALS.load(Ordering::Relaxed)
}

/// A certificate of the right authority and the wrong role. What the peer sees is TLS's `access_denied`.
fn wrong_role(found: Option<String>, expected: &str) -> rustls::Error {
    let found = found.unwrap_or_else(|| "none".to_owned());
    ROLE_REFUSALS.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(
        found,
        expected,
        "a certificate of the wrong role was refused"
    );
    rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)
}

#[derive(Debug)]
struct ClientRole {
    inner: Arc<dyn ClientCertVerifier>,
    roles: Vec<String>,
}

impl ClientCertVerifier for ClientRole {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        match role_of(end_entity) {
            Some(role) if self.roles.contains(&role) => Ok(verified),
            other => Err(wrong_role(other, &self.roles.join(", "))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct ServerRole {
    inner: Arc<WebPkiServerVerifier>,
    role: Option<String>,
}

impl ServerCertVerifier for ServerRole {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        match (&self.role, role_of(end_entity)) {
            (None, _) => Ok(verified),
            (Some(expected), Some(role)) if *expected == role => Ok(verified),
            (Some(expected), found) => Err(wrong_role(found, expected)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
