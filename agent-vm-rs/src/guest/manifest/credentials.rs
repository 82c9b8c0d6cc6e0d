//! The names of the credentials that a guest reads.

use serde::{Deserialize, Serialize};

/// See [`super::Manifest::credentials`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialNames {
    /// sshd's private host key.
    pub ssh_host_key: String,
    /// Public keys that may log in.
    pub authorized_keys: String,
    /// Public keys that may log in as root; missing in guests built before root could log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_keys: Option<String>,
    /// The machine's host name.
    pub hostname: String,
    /// `warn`, `info` or `debug`.
    pub log_level: String,
    /// Name of the host's time zone; missing in guests built before it existed, whose clocks show UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Certificate of the reverse proxy.
    pub mcp_certificate: String,
    /// Private key of that certificate.
    pub mcp_key: String,
    /// Bearer token that the reverse proxy accepts.
    pub mcp_token: String,
    /// Settings of the reverse proxy: whether it requires TLS and the token, and its host names.
    pub mcp_endpoint: String,
    /// Certificate of the authority that the egress proxy signs with.
    pub egress_authority: String,
    /// Environment variables of every session and server, one per line.
    pub egress_environment: String,
}

impl CredentialNames {
    /// Returns every credential's name.
    #[must_use]
    pub fn all(&self) -> Vec<&String> {
        let names = [
            &self.ssh_host_key,
            &self.authorized_keys,
            &self.hostname,
            &self.log_level,
            &self.mcp_certificate,
            &self.mcp_key,
            &self.mcp_token,
            &self.mcp_endpoint,
            &self.egress_authority,
            &self.egress_environment,
        ];
        names.into_iter().chain(&self.root_keys).chain(&self.time_zone).collect()
    }
}
