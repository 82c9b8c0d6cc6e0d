//! Makes a machine's certificate authority, which can only sign for the machine's own names, and the short-lived
//! certificates that it signs.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use super::names::Names;

/// Lifetime of a certificate. A machine that runs for longer gets a renewed one in time.
pub const RUN: Duration = Duration::days(90);
const MACHINE: Duration = Duration::days(3_650);
/// Certificates are valid from this long ago, since clocks differ.
const BEFORE: Duration = Duration::hours(1);

/// A certificate and its private key, as PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Makes a machine's authority, which can sign certificates for these names only, and no further authority.
///
/// # Errors
/// The system provides no random bytes.
pub fn make(machine: &str, names: &Names) -> Result<Pair> {
    let failed = "failed to create the machine's certificate authority";
    let key = new_key().context(failed)?;
    let certificate = authority(machine, names).self_signed(&key).context(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Issues a certificate with a new key, signed with `authority_key` (PEM).
///
/// # Errors
/// `authority_key` is not a private key.
pub fn issue(machine: &str, names: &Names, authority_key: &str) -> Result<Pair> {
    let key = new_key().context("failed to issue the machine's certificate")?;
    let certificate = certify(machine, names, authority_key, &key)?;
    Ok(Pair { certificate, key: key.serialize_pem() })
}

/// Issues another certificate for an existing `key` (PEM), signed with `authority_key` (PEM).
///
/// # Errors
/// One of the two is not a private key.
pub fn renew(machine: &str, names: &Names, authority_key: &str, key: &str) -> Result<String> {
    certify(machine, names, authority_key, &KeyPair::from_pem(key).context("the private key is not valid")?)
}

fn certify(machine: &str, names: &Names, authority_key: &str, key: &KeyPair) -> Result<String> {
    let failed = "failed to issue the machine's certificate";
    let issuer_key = KeyPair::from_pem(authority_key).context("the authority's key is not valid").context(failed)?;
    let issuer = Issuer::new(authority(machine, names), issuer_key);
    let mut params = params("agent-vm", RUN);
    params.subject_alt_names = subjects(names).context(failed)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params.signed_by(key, &issuer).context(failed)?.pem())
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn params(name: &str, validity: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "agent-vm");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BEFORE;
    params.not_after = now + validity;
    params
}

fn authority(machine: &str, names: &Names) -> CertificateParams {
    let mut params = params(machine, MACHINE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let dns = names.dns.iter().cloned().map(GeneralSubtree::DnsName);
    let addresses = names.addresses.iter().map(|address| {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, whole))
    });
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: dns.chain(addresses).collect(), excluded_subtrees: Vec::new() });
    params
}

fn subjects(names: &Names) -> Result<Vec<SanType>> {
    let dns = names.dns.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
    let addresses = names.addresses.iter().map(|address: &IpAddr| Ok(SanType::IpAddress(*address)));
    dns.chain(addresses).collect()
}
