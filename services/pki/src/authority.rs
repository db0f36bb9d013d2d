//! The authority: ECDSA P-256, path length 0, and name constraints (RFC 5280, section 4.2.1.10), for people import it into their
//! browsers: what it cannot certify there, nobody who steals it can.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use crate::{Error, matrix::consumers};

/// How long the authority lives, in days.
pub const CA_DAYS: i64 = 3650;
/// How long a leaf lives, in days.
pub const LEAF_DAYS: i64 = 90;
/// A certificate is good from a little before it was made, for clocks differ.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// What a certificate may be used for (extended key usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// To serve TLS.
    Server,
    /// To call as a TLS client.
    Client,
}

/// What is to be certified.
#[derive(Clone, Debug)]
pub struct Request {
    /// The subject's common name.
    pub role: String,
    /// DNS names and IP addresses.
    pub names: Vec<String>,
    /// What for.
    pub usage: Vec<Usage>,
    /// For how many days from now; a negative number makes one that has expired, for tests.
    pub days: i64,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: String,
}

/// A certificate authority, with its key in memory.
#[derive(Debug)]
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority for the names of the matrix, the loopback, and `names` (DNS names, with all below them, and IP addresses).
    ///
    /// # Errors
    /// When a name is none.
    pub fn create(names: &[String]) -> Result<Self, Error> {
        let failed = || Error::certificate("certificate authority");
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Holdfast CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - CLOCK_SKEW;
        params.not_after = OffsetDateTime::now_utc() + Duration::days(CA_DAYS);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted(names),
            excluded_subtrees: Vec::new(),
        });
        let key = KeyPair::generate().map_err(failed())?;
        let cert_pem = params.self_signed(&key).map_err(failed())?.pem();
        Ok(Self {
            cert_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority that was made before, from its certificate and key in PEM.
    ///
    /// # Errors
    /// When one of the two is not what it should be.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem).map_err(Error::certificate("the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key)
            .map_err(Error::certificate("the authority's certificate"))?;
        Ok(Self {
            cert_pem: cert_pem.to_owned(),
            issuer,
        })
    }

    /// The authority's certificate, PEM: what everybody trusts.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and certifies it.
    ///
    /// # Errors
    /// When a name is none.
    pub fn issue(&self, request: &Request) -> Result<Leaf, Error> {
        let failed = || Error::certificate(&format!("certificate of {}", request.role));
        let mut params = CertificateParams::new(request.names.clone()).map_err(failed())?;
        params.distinguished_name = common_name(&request.role);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = request
            .usage
            .iter()
            .map(|usage| match usage {
                Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
                Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            })
            .collect();
        params.use_authority_key_identifier_extension = true;
        let end = OffsetDateTime::now_utc() + Duration::days(request.days);
        params.not_before = OffsetDateTime::now_utc().min(end) - CLOCK_SKEW;
        params.not_after = end;
        let key = KeyPair::generate().map_err(failed())?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed())?;
        Ok(Leaf {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// What the authority may certify: our own names, the loopback, and what the operator added.
fn permitted(names: &[String]) -> Vec<GeneralSubtree> {
    let loopback = [
        CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0]),
        CidrSubnet::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [255; 16]),
    ];
    let ours = consumers().into_iter().flat_map(|c| c.own_names());
    let mut subtrees: Vec<_> = loopback
        .into_iter()
        .map(GeneralSubtree::IpAddress)
        .collect();
    let mut dns: Vec<String> = ours.chain(["localhost".to_owned()]).collect();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V4(
                v4.octets(),
                [255; 4],
            ))),
            Ok(IpAddr::V6(v6)) => subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V6(
                v6.octets(),
                [255; 16],
            ))),
            Err(_) => dns.push(name.clone()),
        }
    }
    dns.sort();
    dns.dedup();
    subtrees.extend(dns.into_iter().map(GeneralSubtree::DnsName));
    subtrees
}
