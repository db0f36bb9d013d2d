//! Passwords and keys, made once and kept beside the authority's key.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{Error, consumer::write_file};

/// Every secret with the services that get it.
const READERS: &[(&str, &[&str])] = &[
    ("mysql_arbiter_password", &["mysql-1", "mysql-2", "arbiter"]),
    (
        "mysql_replication_password",
        &["mysql-1", "mysql-2", "arbiter"],
    ),
    ("mysql_migrate_password", &["mysql-1", "mysql-2", "migrate"]),
    (
        "mysql_app_password",
        &["mysql-1", "mysql-2", "web-1", "web-2"],
    ),
    ("mysql_monitor_password", &["mysql-1", "mysql-2"]),
    ("mysql_backup_password", &["mysql-1", "mysql-2"]),
    ("session_token_key", &["web-1", "web-2"]),
    ("causal_token_key", &["web-1", "web-2", "migrate"]),
    ("tls_ticket_key", &["balancer-1", "balancer-2"]),
];

/// The names of the secrets that a service gets.
#[must_use]
pub fn secret_names(service: &str) -> Vec<&'static str> {
    READERS
        .iter()
        .filter(|(_, readers)| readers.contains(&service))
        .map(|(name, _)| *name)
        .collect()
}

/// All secrets of one installation, random and in base64url without padding: a key is 32 bytes, which makes 43 characters; a password
/// is 24 bytes, which makes 32, for a server takes no longer one for replication (error 3056).
#[derive(Clone)]
pub struct Secrets(BTreeMap<&'static str, String>);

impl Secrets {
    /// New ones.
    #[must_use]
    pub fn random() -> Self {
        Self(
            READERS
                .iter()
                .map(|(name, _)| (*name, random(name)))
                .collect(),
        )
    }

    /// Those in `directory`; one that is missing is made.
    pub(crate) fn load_or_create(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let mut secrets = BTreeMap::new();
        for (name, _) in READERS {
            let path = directory.join(name);
            let text = match fs::read_to_string(&path) {
                Ok(text) if text.len() == length(name) => text,
                Ok(_) => {
                    let reason = format!("is not a secret of {} characters", length(name));
                    return Err(Error::Broken { path, reason });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let text = random(name);
                    write_file(&path, &text, 0o600)?;
                    text
                }
                Err(error) => return Err(Error::io(&path)(error)),
            };
            secrets.insert(*name, text);
        }
        Ok(Self(secrets))
    }

    /// The secrets of one service, by name.
    #[must_use]
    pub fn of(&self, service: &str) -> BTreeMap<&'static str, String> {
        let names = secret_names(service).into_iter();
        names.map(|name| (name, self.0[name].clone())).collect()
    }
}

fn random(name: &str) -> String {
    if is_password(name) {
        BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
    } else {
        BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
    }
}

/// In characters.
fn length(name: &str) -> usize {
    if is_password(name) { 32 } else { 43 }
}

fn is_password(name: &str) -> bool {
    name.ends_with("_password")
}
