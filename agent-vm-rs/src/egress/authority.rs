//! The certificate authority of the egress proxy, which signs the certificates that the guest sees. Each machine has its own:
//! the host keeps its key, the guest trusts its certificate. The MCP endpoint has a separate authority.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose};
use sha1::{Digest as _, Sha1};

use crate::host::files::{has_file, make_dir_durably, make_private_dir, read_text, write_file, write_unsynced};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;

/// Validity: longer than a machine lives.
const DAYS: i64 = 3650;

/// Returns the authority's certificate as PEM; creates the authority if there is none.
///
/// # Errors
/// It cannot be created, written or read.
pub fn certificate(machine: &Path) -> Result<String> {
    let path = MachinePath::EgressAuthorityCertificate.of(machine);
    if !has_file(&path)? {
        make(machine).context("failed to create the egress proxy's certificate authority")?;
    }
    read_text(&path)
}

/// Copies the authority to [`MachinePath::ProxyAuthority`] for the proxy. Nothing is read back from there: a compromised proxy
/// could have changed it.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_for_proxy(machine: &Path, run: &RunDir) -> Result<PathBuf> {
    certificate(machine)?;
    let (from, to) = (MachinePath::EgressAuthorityBoth.of(machine), run.file(MachinePath::ProxyAuthority));
    let both = read_text(&from)?;
    make_private_dir(&to)?;
    write_unsynced(&to.join(MachinePath::EgressAuthorityBoth.file_name()), both, 0o600)?;
    Ok(to)
}

fn make(machine: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    // mitmproxy derives the issuer's key identifier from the key in this way (RFC 5280, 4.2.1.2, method 1).
    params.key_identifier_method = KeyIdMethod::PreSpecified(Sha1::digest(key.public_key_raw()).to_vec());
    params.distinguished_name.push(DnType::CommonName, "agent-vm egress");
    let now = std::time::SystemTime::now();
    // The guest's clock may be slightly behind.
    params.not_before = (now - std::time::Duration::from_secs(86_400)).into();
    params.not_after = (now + std::time::Duration::from_secs(86_400 * DAYS.unsigned_abs())).into();
    let certificate = params.self_signed(&key)?.pem();
    make_dir_durably(&MachinePath::EgressAuthority.of(machine), 0o700)?;
    write_file(&MachinePath::EgressAuthorityBoth.of(machine), key.serialize_pem() + &certificate, 0o600)?;
    // Written last: if the certificate exists, the key does, too.
    write_file(&MachinePath::EgressAuthorityCertificate.of(machine), certificate, 0o600)
}

/// Returns the bundle of certificate authorities that the host's user trusts, if the environment names one.
#[must_use]
pub fn host_bundle() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_authority_is_created_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = certificate(dir.path()).unwrap();
        assert!(first.starts_with("-----BEGIN CERTIFICATE-----"), "{first}");
        assert_eq!(certificate(dir.path()).unwrap(), first);
        let both = MachinePath::EgressAuthorityBoth.of(dir.path());
        assert!(fs::read_to_string(&both).unwrap().contains("PRIVATE KEY"));
        assert_eq!(fs::metadata(both).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
