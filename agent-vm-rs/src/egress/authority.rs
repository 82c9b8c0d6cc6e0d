//! The authority that signs what the proxy shows the guest in place of the real certificates. One a machine: its key is
//! the host's, its certificate the guest's to trust. Not the one that host programs trust for MCP.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose};
use sha1::{Digest as _, Sha1};

use crate::host::files::{has_file, make_dir_durably, make_private_dir, read_text, write_file, write_unsynced};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;

/// A machine does not live as long.
const DAYS: i64 = 3650;

/// Its certificate as PEM; made now if there is none.
///
/// # Errors
/// It cannot be made, written or read.
pub fn certificate(machine: &Path) -> Result<String> {
    let path = MachinePath::EgressAuthorityCertificate.of(machine);
    if !has_file(&path)? {
        make(machine).context("failed to make the authority of the proxy")?;
    }
    read_text(&path)
}

/// Puts a copy into [`MachinePath::ProxyAuthority`]: what a proxy that was taken over leaves there is never read again.
///
/// # Errors
/// It cannot be read or written.
pub fn hand_over(machine: &Path, run: &RunDir) -> Result<PathBuf> {
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
    // What mitmproxy derives from the key to name it as its certificates' issuer: RFC 5280, 4.2.1.2, method 1.
    params.key_identifier_method = KeyIdMethod::PreSpecified(Sha1::digest(key.public_key_raw()).to_vec());
    params.distinguished_name.push(DnType::CommonName, "agent-vm egress");
    let now = std::time::SystemTime::now();
    // A guest whose clock is a little behind trusts it all the same.
    params.not_before = (now - std::time::Duration::from_secs(86_400)).into();
    params.not_after = (now + std::time::Duration::from_secs(86_400 * DAYS.unsigned_abs())).into();
    let certificate = params.self_signed(&key)?.pem();
    make_dir_durably(&MachinePath::EgressAuthority.of(machine), 0o700)?;
    write_file(&MachinePath::EgressAuthorityBoth.of(machine), key.serialize_pem() + &certificate, 0o600)?;
    // Last: where it is, the other one is too.
    write_file(&MachinePath::EgressAuthorityCertificate.of(machine), certificate, 0o600)
}

/// Where certificates of authorities are that the user of the host trusts beside the system's.
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
    fn it_is_made_once_and_its_key_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let first = certificate(dir.path()).unwrap();
        assert!(first.starts_with("-----BEGIN CERTIFICATE-----"), "{first}");
        assert_eq!(certificate(dir.path()).unwrap(), first);
        let both = MachinePath::EgressAuthorityBoth.of(dir.path());
        assert!(fs::read_to_string(&both).unwrap().contains("PRIVATE KEY"));
        assert_eq!(fs::metadata(both).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
