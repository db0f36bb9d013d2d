//! `pki issue`: makes what is missing, renews what is near its end, keeps the rest. Running it twice changes nothing.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

use time::OffsetDateTime;
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

use crate::{
    Error,
    authority::{Authority, LEAF_DAYS, Request, Usage},
    consumer::{write_consumer, write_file},
    matrix::{Consumer, consumers},
    secrets::Secrets,
};

/// A leaf that has fewer days left is renewed.
pub const RENEW_BELOW_DAYS: i64 = 30;

/// What happened to one consumer's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The consumer.
    pub service: String,
    /// `None` where they were kept, otherwise why they were written.
    pub written: Option<String>,
    /// How long its certificate is good for.
    pub days_left: i64,
    /// Whether the files belong to their user.
    pub owned: bool,
}

/// Issues for every consumer of the matrix whose directory is there (a mounted volume), below `out`. The authority and the secrets
/// live in `ca`. `names` are what the edge is called besides localhost.
///
/// # Errors
/// The first thing that cannot be read or written; what was written before it stays good.
pub fn issue_all(ca: &Path, out: &Path, names: &[String]) -> Result<Vec<Outcome>, Error> {
    let consumers: Vec<_> = consumers()
        .into_iter()
        .filter(|c| out.join(&c.service).is_dir())
        .collect();
    if consumers.is_empty() {
        let expected: Vec<_> = crate::consumers().into_iter().map(|c| c.service).collect();
        return Err(Error::NoConsumers {
            path: out.to_owned(),
            expected: expected.join(", "),
        });
    }
    fs::create_dir_all(ca).map_err(Error::io(ca))?;
    let authority = load_or_create(ca, names)?;
    let secrets = Secrets::load_or_create(&ca.join("secrets"))?;
    consumers
        .iter()
        .map(|consumer| {
            let mut wanted = consumer.names();
            if consumer.role == "balancer" {
                wanted.extend_from_slice(names);
            }
            let directory = out.join(&consumer.service);
            let secrets = secrets.of(&consumer.service);
            match state(&directory, consumer, &wanted, &authority, &secrets) {
                Ok(days_left) => Ok(Outcome {
                    service: consumer.service.clone(),
                    written: None,
                    days_left,
                    owned: true,
                }),
                Err(why) => {
                    let leaf = authority.issue(&Request {
                        role: consumer.role.clone(),
                        names: wanted,
                        usage: consumer.usage.clone(),
                        days: LEAF_DAYS,
                    })?;
                    let written = write_consumer(
                        &directory,
                        consumer.user,
                        authority.cert_pem(),
                        &leaf,
                        &secrets,
                    )?;
                    Ok(Outcome {
                        service: consumer.service.clone(),
                        written: Some(why),
                        days_left: LEAF_DAYS,
                        owned: written.owned,
                    })
                }
            }
        })
        .collect()
}

fn load_or_create(ca: &Path, names: &[String]) -> Result<Authority, Error> {
    let (cert, key, made_for) = (ca.join("ca.crt"), ca.join("ca.key"), ca.join("names"));
    if !cert.exists() {
        let authority = Authority::create(names)?;
        // The certificate comes last: without it the authority is not there yet.
        write_file(&made_for, &names.join("\n"), 0o600)?;
        write_file(&key, &authority.key_pem(), 0o600)?;
        write_file(&cert, authority.cert_pem(), 0o644)?;
        return Ok(authority);
    }
    let read = |path: &Path| fs::read_to_string(path).map_err(Error::io(path));
    let covered: Vec<String> = read(&made_for)?.lines().map(str::to_owned).collect();
    if names.iter().any(|name| !covers(&covered, name)) {
        return Err(Error::Names {
            made_for: covered,
            asked: names.to_vec(),
        });
    }
    let missing = not_permitted(&read(&cert)?);
    if !missing.is_empty() {
        return Err(Error::Older { missing });
    }
    Authority::load(&read(&cert)?, &read(&key)?).map_err(|error| Error::Broken {
        path: key,
        reason: error.to_string(),
    })
}

/// The consumers' names that an authority's constraints leave out. What cannot be read is told of when it is loaded.
fn not_permitted(cert_pem: &str) -> Vec<String> {
    let Ok((_, pem)) = parse_x509_pem(cert_pem.as_bytes()) else {
        return Vec::new();
    };
    let constraints = pem.parse_x509().ok().and_then(|certificate| {
        let constraints = certificate.name_constraints().ok()??;
        let permitted = constraints.value.permitted_subtrees.as_ref()?;
        Some(permitted.iter().map(|tree| name_of(&tree.base)).collect())
    });
    let Some(permitted): Option<Vec<String>> = constraints else {
        return Vec::new();
    };
    let names = consumers().into_iter().flat_map(|c| c.own_names());
    names.filter(|name| !covers(&permitted, name)).collect()
}

/// A DNS name covers itself and all below it.
fn covers(covered: &[String], name: &str) -> bool {
    covered
        .iter()
        .any(|c| name == c || name.ends_with(&format!(".{c}")))
}

/// The days that the consumer's certificate has left, or why its files must be written.
fn state(
    directory: &Path,
    consumer: &Consumer,
    names: &[String],
    authority: &Authority,
    secrets: &BTreeMap<&'static str, String>,
) -> Result<i64, String> {
    let current = directory.join("current");
    if fs::symlink_metadata(&current).is_err() {
        return Err("new".to_owned());
    }
    let read = |name: &str| {
        fs::read_to_string(current.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    if read("ca.crt")? != authority.cert_pem() {
        return Err("the authority is another one".to_owned());
    }
    for (name, secret) in secrets {
        if read(&format!("secrets/{name}"))? != *secret {
            return Err(format!("the secret {name} is another one"));
        }
    }
    let key = fs::metadata(current.join("tls.key")).map_err(|error| format!("tls.key: {error}"))?;
    if nix::unistd::geteuid().is_root() && key.uid() != consumer.user {
        return Err(format!("the files belong to user {}", key.uid()));
    }
    let pem = read("tls.crt")?;
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|error| format!("tls.crt: {error}"))?;
    let certificate = pem
        .parse_x509()
        .map_err(|error| format!("tls.crt: {error}"))?;
    let role = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok());
    if role != Some(&consumer.role) {
        return Err(format!("the role is {}", role.unwrap_or("missing")));
    }
    let mut found: Vec<String> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| extension.value.general_names.iter().map(name_of).collect())
        .unwrap_or_default();
    let mut wanted = names.to_vec();
    found.sort();
    wanted.sort();
    if found != wanted {
        return Err(format!("the names were {}", found.join(", ")));
    }
    let usage = certificate.extended_key_usage().ok().flatten();
    let usage = usage.map_or((false, false), |u| {
        (u.value.server_auth, u.value.client_auth)
    });
    let wanted = [Usage::Server, Usage::Client].map(|u| consumer.usage.contains(&u));
    if usage != (wanted[0], wanted[1]) {
        return Err("its use is another one".to_owned());
    }
    let left =
        certificate.validity().not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp();
    let days_left = left.div_euclid(86_400);
    if days_left < RENEW_BELOW_DAYS {
        return Err(format!("{days_left} days were left"));
    }
    Ok(days_left)
}

fn name_of(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
                (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
                _ => format!("{bytes:?}"),
            }
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (ca, out) = (root.path().join("ca"), root.path().join("out"));
        for service in ["web-1", "mysql-1", "balancer-1"] {
            fs::create_dir_all(out.join(service)).unwrap();
        }
        (root, ca, out)
    }

    fn written(outcomes: &[Outcome]) -> Vec<&str> {
        let written = outcomes.iter().filter(|o| o.written.is_some());
        written.map(|o| o.service.as_str()).collect()
    }

    #[test]
    fn an_authority_that_is_older_than_a_consumer_is_not_used_and_says_what_to_do() {
        use rcgen::{
            BasicConstraints, CertificateParams, GeneralSubtree, IsCa, KeyPair, NameConstraints,
        };
        let (_root, ca, out) = directories();
        fs::create_dir_all(&ca).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("web-1".to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let key = KeyPair::generate().unwrap();
        fs::write(ca.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(ca.join("ca.key"), key.serialize_pem()).unwrap();
        fs::write(ca.join("names"), "").unwrap();
        let error = issue_all(&ca, &out, &[]).unwrap_err().to_string();
        assert!(error.contains("fw-edge"), "{error}");
        assert!(!error.contains("\"web-1\""), "{error}");
        assert!(error.contains("pki-ca"), "{error}");
    }

    #[test]
    fn the_second_time_changes_nothing() {
        let (_root, ca, out) = directories();
        let first = issue_all(&ca, &out, &[]).unwrap();
        assert_eq!(written(&first), ["balancer-1", "mysql-1", "web-1"]);
        let before = fs::read_link(out.join("web-1/current")).unwrap();
        let second = issue_all(&ca, &out, &[]).unwrap();
        assert_eq!(written(&second), [""; 0], "{second:?}");
        assert_eq!(fs::read_link(out.join("web-1/current")).unwrap(), before);
        assert!(
            second.iter().all(|o| o.days_left >= LEAF_DAYS - 1),
            "{second:?}"
        );
    }

    #[test]
    fn a_consumer_gets_its_own_secrets_and_the_same_as_its_partner() {
        let (_root, ca, out) = directories();
        issue_all(&ca, &out, &[]).unwrap();
        let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
        assert_eq!(
            read("web-1/current/secrets/mysql_app_password"),
            read("mysql-1/current/secrets/mysql_app_password")
        );
        assert!(
            !out.join("web-1/current/secrets/mysql_arbiter_password")
                .exists()
        );
        assert!(
            !out.join("balancer-1/current/secrets/mysql_app_password")
                .exists()
        );
    }

    #[test]
    fn what_is_near_its_end_or_damaged_is_written_again_and_the_rest_kept() {
        let (_root, ca, out) = directories();
        issue_all(&ca, &out, &[]).unwrap();
        let authority = Authority::load(
            &fs::read_to_string(ca.join("ca.crt")).unwrap(),
            &fs::read_to_string(ca.join("ca.key")).unwrap(),
        )
        .unwrap();
        let consumer = consumers()
            .into_iter()
            .find(|c| c.service == "web-1")
            .unwrap();
        let old = authority
            .issue(&Request {
                role: consumer.role.clone(),
                names: consumer.names(),
                usage: consumer.usage.clone(),
                days: RENEW_BELOW_DAYS - 1,
            })
            .unwrap();
        fs::remove_file(out.join("web-1/current/tls.crt")).unwrap();
        fs::write(out.join("web-1/current/tls.crt"), old.cert_pem).unwrap();
        fs::remove_file(out.join("mysql-1/current/secrets/mysql_app_password")).unwrap();
        let outcomes = issue_all(&ca, &out, &[]).unwrap();
        assert_eq!(written(&outcomes), ["mysql-1", "web-1"], "{outcomes:?}");
        assert!(fs::exists(out.join("mysql-1/current/secrets/mysql_app_password")).unwrap());
    }

    #[test]
    fn a_name_that_the_authority_was_not_made_for_is_refused_with_what_to_do() {
        let (_root, ca, out) = directories();
        issue_all(&ca, &out, &["shop.example".to_owned()]).unwrap();
        issue_all(&ca, &out, &["www.shop.example".to_owned()]).unwrap();
        let error = issue_all(&ca, &out, &["bank.example".to_owned()]).unwrap_err();
        assert!(
            error.to_string().contains("remove the volume pki-ca"),
            "{error}"
        );
    }

    #[test]
    fn nobody_reads_half_a_pair_while_it_is_replaced() {
        use rcgen::{KeyPair, PublicKeyData};
        let root = tempfile::tempdir().unwrap();
        let authority = Authority::create(&[]).unwrap();
        let write = || {
            let leaf = authority
                .issue(&Request {
                    role: "web".to_owned(),
                    names: vec!["web-1".to_owned()],
                    usage: vec![Usage::Server],
                    days: 1,
                })
                .unwrap();
            let user = nix::unistd::geteuid().as_raw();
            write_consumer(
                root.path(),
                user,
                authority.cert_pem(),
                &leaf,
                &BTreeMap::new(),
            )
            .unwrap();
        };
        write();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..30).for_each(|_| write()));
            let mut pairs = 0;
            while !writer.is_finished() || pairs == 0 {
                // Readers resolve the link once, as `chassis::identity` does; a generation that was removed meanwhile is read again.
                let now = fs::canonicalize(root.path().join("current")).unwrap();
                let (Ok(cert), Ok(key)) = (
                    fs::read_to_string(now.join("tls.crt")),
                    fs::read_to_string(now.join("tls.key")),
                ) else {
                    continue;
                };
                let (_, pem) = parse_x509_pem(cert.as_bytes()).unwrap();
                let certificate = pem.parse_x509().unwrap();
                let key = KeyPair::from_pem(&key).unwrap();
                assert_eq!(
                    certificate.public_key().subject_public_key.data,
                    key.der_bytes()
                );
                pairs += 1;
            }
        });
    }
}
