//! Identities as files: who gets through a handshake, what a rotation does, and what is said of files that cannot be used.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests, too

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chassis::identity::{Clients, Identity, IdentityError, IdentityWatch, role_of};
use pki::{Authority, Request, Usage, write_consumer};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tempfile::TempDir;

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// An authority with a directory of consumers.
struct World {
    authority: Authority,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            authority: Authority::create(&[]).unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Writes a consumer's files, a rotation if there are some, and gives what a service is configured with.
    fn write(&self, role: &str, name: &str, usage: &[Usage], days: i64) -> PathBuf {
        let leaf = self.authority.issue(&Request {
            role: role.to_owned(),
            names: vec![name.to_owned()],
            usage: usage.to_vec(),
            days,
        });
        let directory = self.directory.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        let user = directory.metadata().unwrap().uid();
        let secrets = BTreeMap::from([("password", "hush\n".to_owned())]);
        let ca = self.authority.cert_pem();
        write_consumer(&directory, user, ca, &leaf.unwrap(), &secrets).unwrap();
        directory.join("current")
    }

    fn identity(&self, role: &str, name: &str, usage: &[Usage], days: i64) -> Identity {
        Identity::load(&self.write(role, name, usage, days)).unwrap()
    }

    fn balancer(&self) -> Identity {
        self.identity("balancer", "balancer-1", &[Usage::Client], 90)
    }

    fn web(&self) -> Identity {
        self.identity("web", "web-1", &[Usage::Server, Usage::Client], 90)
    }
}

/// A whole handshake and one byte each way, in memory; the protocol that was agreed on.
fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Option<Vec<u8>>, String> {
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let told = |who: &str, error: &dyn std::fmt::Display| format!("{who}: {error}");
    client.writer().write_all(b"?").unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server
                .process_new_packets()
                .map_err(|error| told("server", &error))?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client
                .process_new_packets()
                .map_err(|error| told("client", &error))?;
        }
    }
    let mut byte = [0];
    server
        .reader()
        .read_exact(&mut byte)
        .map_err(|error| told("nothing arrived", &error))?;
    Ok(server.alpn_protocol().map(<[u8]>::to_vec))
}

#[test]
fn who_has_the_right_role_gets_through_and_the_first_protocol_is_preferred() {
    let world = World::new();
    let (balancer, web) = (world.balancer(), world.web());
    let server = web.server_config(Clients::Roles(&["balancer", "prometheus"]), ALPN);
    let client = balancer.client_config(Some("web"), &[b"http/1.1", b"h2"]);
    assert_eq!(handshake(client, server, "web-1"), Ok(Some(b"h2".to_vec())));
    assert_eq!(role_of(&web.chain()[0]).as_deref(), Some("web"));
}

#[test]
fn a_client_of_another_role_or_of_none_is_refused() {
    let world = World::new();
    let (balancer, web) = (world.balancer(), world.web());
    let server = || web.server_config(Clients::Roles(&["arbiter"]), ALPN);
    let client = balancer.client_config(Some("web"), ALPN);
    let refused = handshake(client, server(), "web-1").unwrap_err();
    assert!(refused.starts_with("server: "), "{refused}");

    let roots = web.roots().clone();
    let provider = rustls::crypto::ring::default_provider();
    let anonymous = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let refused = handshake(Arc::new(anonymous.clone()), server(), "web-1").unwrap_err();
    assert!(refused.starts_with("server: "), "{refused}");
    let open = web.server_config(Clients::Anybody, &[]);
    assert_eq!(handshake(Arc::new(anonymous), open, "web-1"), Ok(None));
}

#[test]
fn a_server_of_another_role_or_name_is_refused() {
    let world = World::new();
    let (balancer, web) = (world.balancer(), world.web());
    let server = || web.server_config(Clients::Roles(&["balancer"]), ALPN);
    let client = |role| balancer.client_config(Some(role), ALPN);
    let refused = handshake(client("mysql"), server(), "web-1").unwrap_err();
    assert!(refused.starts_with("client: "), "{refused}");
    let refused = handshake(client("web"), server(), "web-2").unwrap_err();
    assert!(refused.contains("web-2"), "{refused}");
}

#[test]
fn a_certificate_that_has_expired_or_is_for_something_else_is_refused() {
    let world = World::new();
    let balancer = world.balancer();
    let expired = world.identity("web", "web-2", &[Usage::Server], -1);
    assert!(expired.days_left() < 0);
    let server = expired.server_config(Clients::Roles(&["balancer"]), ALPN);
    let client = balancer.client_config(Some("web"), ALPN);
    let refused = handshake(client, server, "web-2").unwrap_err();
    assert!(refused.contains("expired"), "{refused}");

    // A certificate for clients only, used by a server.
    let server = balancer.server_config(Clients::Anybody, ALPN);
    let client = world.web().client_config(Some("balancer"), ALPN);
    let refused = handshake(client, server, "balancer-1").unwrap_err();
    assert!(refused.starts_with("client: "), "{refused}");
}

#[test]
fn another_authority_is_a_stranger() {
    let (world, other) = (World::new(), World::new());
    let web = world.web();
    let server = web.server_config(Clients::Roles(&["balancer"]), ALPN);
    let client = other.balancer().client_config(Some("web"), ALPN);
    let refused = handshake(client, server, "web-1").unwrap_err();
    // Its name is the same, so it is the signature that tells it apart.
    assert!(
        refused.contains("client: invalid peer certificate"),
        "{refused}"
    );
}

fn reason(directory: &Path) -> String {
    Identity::load(directory).unwrap_err().to_string()
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let world = World::new();
    let current = world.write("web", "web-1", &[Usage::Server], 90);
    let other = world.write("web", "web-2", &[Usage::Server], 90);
    assert!(Identity::load(&current).is_ok());

    fs::copy(other.join("tls.key"), current.join("tls.new")).unwrap();
    fs::rename(current.join("tls.new"), current.join("tls.key")).unwrap();
    let half = reason(&current);
    assert!(half.contains("tls.key: not the key of tls.crt"), "{half}");

    fs::remove_file(current.join("tls.key")).unwrap();
    let missing = reason(&current);
    assert!(missing.contains("tls.key: No such file"), "{missing}");
    assert!(missing.contains("has `pki` written"), "{missing}");

    fs::remove_file(current.join("ca.crt")).unwrap();
    fs::write(current.join("ca.crt"), "not a certificate").unwrap();
    let empty = reason(&current);
    assert!(empty.contains("ca.crt: holds no certificate"), "{empty}");

    let nowhere = world.directory.path().join("nowhere");
    assert!(matches!(
        Identity::load(&nowhere),
        Err(IdentityError::Unreadable { .. })
    ));
}

#[test]
fn a_secret_is_read_without_its_line_end() {
    let world = World::new();
    let web = world.web();
    assert_eq!(web.secret("password").unwrap(), "hush");
    let missing = web.secret("key").unwrap_err().to_string();
    assert!(missing.contains("secrets/key"), "{missing}");
}

#[test]
fn a_rotation_is_seen_once_and_a_bad_one_leaves_the_last_good_set() {
    let world = World::new();
    let current = world.write("web", "web-1", &[Usage::Server], 10);
    let watch = IdentityWatch::load(&current).unwrap();
    assert!(watch.look().unwrap().is_none());
    let first = watch.current();

    world.write("web", "web-1", &[Usage::Server], 90);
    let second = watch.look().unwrap().unwrap();
    assert!(second.days_left() > first.days_left());
    assert!(watch.look().unwrap().is_none());
    // What the first set made goes on with the first set's files, which are still there.
    assert!(first.key_path().exists());
    assert_ne!(first.directory(), second.directory());

    world.write("web", "web-1", &[Usage::Server], 90);
    fs::remove_file(current.join("tls.crt")).unwrap();
    assert!(watch.look().is_err());
    assert_eq!(watch.current().directory(), second.directory());
}
