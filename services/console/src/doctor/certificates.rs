//! Is any certificate near its end?

use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::pem::parse_x509_pem;

use super::Finding;
use crate::{command, compose};

const ABOUT: &str = "certificates";

/// `./stack up` renews below this; who has not run it for so long should.
const DAYS_WARNING: i64 = 30;

/// Below this it is not a plan any more.
const DAYS_FAULT: i64 = 3;

/// Services without certificate files.
const WITHOUT: [&str; 1] = ["pki"];

pub(super) async fn examine() -> Vec<Finding> {
    let containers = compose::containers().await.unwrap_or_default();
    let services = containers
        .into_iter()
        .map(|container| container.service)
        .filter(|service| !WITHOUT.contains(&service.as_str()));
    let Ok(directory) = tempfile::tempdir() else {
        return vec![Finding::warning(
            ABOUT,
            "no temporary directory can be made",
            "",
        )];
    };
    let mut looks = tokio::task::JoinSet::new();
    for service in services {
        let to = directory.path().join(&service);
        looks.spawn(async move { (days_left(&service, &to).await, service) });
    }
    let mut found = Vec::new();
    while let Some(look) = looks.join_next().await {
        if let Ok((Some(days), service)) = look {
            found.push((days, service));
        }
    }
    found.sort_unstable();
    vec![judge(&found)]
}

/// The days that a service's certificate is still good for. The files are read from the volume, so it need not run.
async fn days_left(service: &str, to: &std::path::Path) -> Option<i64> {
    let from = format!("{service}:/run/holdfast/pki/current/tls.crt");
    let to_text = to.to_str()?;
    let arguments = ["compose", "cp", "--follow-link", &from, to_text];
    command::output("docker", &arguments).await.ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let end = end_of(&std::fs::read(to).ok()?)?;
    Some((end - i64::try_from(now.as_secs()).ok()?).div_euclid(86_400))
}

/// When a certificate in PEM ends, in seconds since 1970.
fn end_of(pem: &[u8]) -> Option<i64> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

/// From the days left of each, the fewest first.
fn judge(found: &[(i64, String)]) -> Finding {
    let renew = "./stack up renews it";
    match found.first() {
        None => Finding::ok(ABOUT, "there are none yet"),
        Some((days, service)) if *days < 0 => {
            Finding::fault(ABOUT, format!("that of {service} has expired"), renew)
        }
        Some((days, service)) if *days < DAYS_FAULT => Finding::fault(
            ABOUT,
            format!("that of {service} ends in {days} days"),
            renew,
        ),
        Some((days, service)) if *days < DAYS_WARNING => Finding::warning(
            ABOUT,
            format!("that of {service} ends in {days} days"),
            renew,
        ),
        Some((days, _)) => Finding::ok(
            ABOUT,
            format!("{} are good for {days} days or more", found.len()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn the_one_that_ends_first_decides() {
        let found = |days: &[i64]| {
            let all: Vec<_> = days
                .iter()
                .map(|&days| (days, "web-1".to_owned()))
                .collect();
            judge(&all).severity
        };
        assert_eq!(found(&[]), Severity::Ok);
        assert_eq!(found(&[30, 89]), Severity::Ok);
        assert_eq!(found(&[29, 89]), Severity::Warning);
        assert_eq!(found(&[2, 89]), Severity::Fault);
        assert_eq!(found(&[-1, 89]), Severity::Fault);
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        assert_eq!(end_of(b""), None);
        assert_eq!(
            end_of(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            None
        );
    }
}
