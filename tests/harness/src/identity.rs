//! Certificates, keys and passwords for a test's servers and clients, made by the stack's own library and laid out as its volumes are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use pki::{Authority, Consumer, LEAF_DAYS, Request, Secrets, consumers, write_consumer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

use crate::mysql_image::user;
use crate::run;

/// A third server, which the stack has not: tests of several replicas have one.
const THIRD: &str = "mysql-3";

/// A CA of its own, and an identity for every consumer of the matrix and for a third server. Cheap to clone; the files go with the last clone.
#[derive(Clone, Debug)]
pub struct Identities {
    directory: Arc<TempDir>,
}

impl Identities {
    /// Makes them. Every certificate is good for localhost and 127.0.0.1 beside the names it has in the stack.
    pub fn make() -> Result<Identities> {
        let directory = Arc::new(run::directory("pki")?);
        let authority = Authority::create(&[THIRD.to_owned()])?;
        let secrets = Secrets::random();
        for consumer in everybody() {
            let files = directory.path().join(&consumer.service);
            fs::create_dir(&files)?;
            let leaf = authority.issue(&Request {
                role: consumer.role.clone(),
                names: consumer.names(),
                usage: consumer.usage.clone(),
                days: LEAF_DAYS,
            })?;
            // Servers run in containers as a user of their own; everybody else is a process of the tests' user.
            let reader = if consumer.role == "mysql" {
                user().0
            } else {
                geteuid().as_raw()
            };
            let secrets: BTreeMap<_, _> = match consumer.service.as_str() {
                THIRD => secrets.of("mysql-2"),
                service => secrets.of(service),
            };
            write_consumer(&files, reader, authority.cert_pem(), &leaf, &secrets)?;
        }
        Ok(Identities { directory })
    }

    /// The identity of a consumer (web-1, arbiter, …): what is mounted at /run/holdfast/pki in the stack, so the files are below
    /// `current/`.
    pub fn of(&self, consumer: &str) -> PathBuf {
        self.directory.path().join(consumer)
    }

    /// An HTTP client that presents a consumer's certificate, trusts this authority alone, and follows no redirect.
    pub fn client(&self, consumer: &str) -> Result<reqwest::Client> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let identity = self.of(consumer).join("current");
        let mut pem = fs::read(identity.join("tls.crt"))?;
        pem.extend(fs::read(identity.join("tls.key"))?);
        let ca = fs::read(identity.join("ca.crt"))?;
        Ok(reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca)?)
            .identity(reqwest::Identity::from_pem(&pem)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?)
    }

    /// The password of a database account, such as `app`. The servers have all of them.
    pub fn password(&self, user: &str) -> Result<String> {
        let path = self
            .of("mysql-1")
            .join("current/secrets")
            .join(format!("mysql_{user}_password"));
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }
}

/// The consumers of the matrix, and a third server that is as the second one.
fn everybody() -> Vec<Consumer> {
    let mut everybody = consumers();
    let second = everybody.iter().find(|one| one.service == "mysql-2");
    let third = second.map(|second| Consumer {
        service: THIRD.to_owned(),
        pod: None,
        ..second.clone()
    });
    everybody.extend(third);
    everybody
}

/// TLS for a test's server that shows the identity in this directory (`current`), asks for a certificate of the same authority, whatever
/// its role, and offers these protocols.
pub fn server_config(identity: &Path, alpn: &[&[u8]]) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(identity.join("ca.crt"))? {
        roots.add(certificate?)?;
    }
    let chain =
        CertificateDer::pem_file_iter(identity.join("tls.crt"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(identity.join("tls.key"))?;
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .context("a certificate and its key")?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
