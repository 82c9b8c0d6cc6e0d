//! The MCP endpoint of a machine: its certificates, its token, and requests to it.

pub mod authority;
mod connector;
pub mod names;
mod own_address;
pub mod renewal;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use self::connector::Marking;
pub use self::connector::was_not_connected;
use self::names::Names;
use crate::host::files::{has_file, make_dir_durably, quoted, read_if_there, read_text, write_file};
use crate::host::hex;
use crate::machine::Machine;
use crate::machine::in_use::Query;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::term::error::Failure;

const TOKEN_BYTES: usize = 32;

/// Files that the guest's reverse proxy receives at start.
pub struct Handover {
    /// The certificate, as PEM.
    pub certificate: String,
    /// Its private key, as PEM.
    pub key: String,
    /// The bearer token.
    pub token: String,
    /// JSON with `tls`, `auth` and `hosts`.
    pub settings: String,
}

/// Returns the path of the authority's certificate, which clients verify the endpoint with.
#[must_use]
pub fn ca_file(machine: &Path) -> PathBuf {
    MachinePath::TlsAuthority.of(machine)
}

/// Returns the path of the bearer token, which only its owner can read.
#[must_use]
pub fn token_file(machine: &Path) -> PathBuf {
    MachinePath::TlsToken.of(machine)
}

/// Creates a machine's certificate authority and token if they are missing. Returns the names that the authority signs
/// for.
///
/// # Errors
/// A file cannot be written.
pub fn ensure(dir: &Path, machine: &str, host: &str, address: Ipv4Addr) -> Result<Names> {
    let names = names(host, address);
    make_dir_durably(&MachinePath::Tls.of(dir), 0o700)?;
    let made_for = names.hosts().join("\n") + "\n";
    let is_there = |file: MachinePath| has_file(&file.of(dir));
    let current = read_if_there(&MachinePath::TlsNames.of(dir))?.is_some_and(|names| names == made_for);
    if !(current && is_there(MachinePath::TlsAuthority)? && is_there(MachinePath::TlsAuthorityKey)?) {
        let pair = authority::make(machine, &names)?;
        write_file(&MachinePath::TlsAuthorityKey.of(dir), pair.key, 0o600)?;
        write_file(&MachinePath::TlsAuthority.of(dir), pair.certificate, 0o644)?;
        // Written last: if it is missing, the authority is made again.
        write_file(&MachinePath::TlsNames.of(dir), made_for, 0o600)?;
    }
    if !is_there(MachinePath::TlsToken)? {
        write_file(&MachinePath::TlsToken.of(dir), hex::random(TOKEN_BYTES)? + "\n", 0o600)?;
    }
    Ok(names)
}

fn names(host: &str, address: Ipv4Addr) -> Names {
    let own = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    Names::new(host, address, own.as_deref().map(str::trim))
}

/// Replaces a library's wording for a connection that ended early; other errors stay as they are.
#[must_use]
pub fn connection_error(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let is_cut = |cause: &(dyn std::error::Error + 'static)| {
        let cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        cause.downcast_ref::<io::Error>().is_some_and(cut)
            || matches!(cause.downcast_ref(), Some(ureq::Error::Io(error)) if cut(error))
    };
    if error.chain().any(is_cut) { Failure::new("the connection was cut off").into() } else { error }
}

/// Issues the certificate of a run and returns the files for the reverse proxy. Only the guest keeps the private key.
///
/// # Errors
/// Those of [`ensure`], or the authority's key is not valid.
pub fn hand_over(machine: &Machine, settings: &Settings, address: Ipv4Addr) -> Result<Handover> {
    let name = machine.name.as_str();
    let names = ensure(&machine.dir, name, &settings.host, address)?;
    let pair = authority::issue(name, &names, &read_text(&MachinePath::TlsAuthorityKey.of(&machine.dir))?)
        .with_context(|| {
            let dir = MachinePath::Tls.of(&machine.dir);
            Failure::new(format!("the certificate authority in {} is not valid", dir.display())).with_hint(format!(
                "to make a new one: rm -r -- {}; clients then need the new certificate and token (agent-vm mcp-config)",
                quoted(&dir)
            ))
        })?;
    let described = serde_json::json!({ "tls": settings.tls, "auth": settings.auth, "hosts": names.hosts() });
    Ok(Handover {
        certificate: pair.certificate,
        key: pair.key,
        token: token(&machine.dir)?,
        settings: described.to_string(),
    })
}

fn token(dir: &Path) -> Result<String> {
    Ok(read_text(&MachinePath::TlsToken.of(dir))?.trim().to_owned())
}

/// The endpoint of a running machine. Clones share its connections.
#[derive(Clone)]
pub struct Endpoint {
    agent: ureq::Agent,
    origin: String,
    authorization: Option<String>,
    /// It ends after the connections.
    _query: Option<Arc<Query>>,
}

/// Time limits of requests; None for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// For connecting.
    pub connect: Option<Duration>,
    /// For a whole request.
    pub whole: Option<Duration>,
}

impl Endpoint {
    /// Returns the endpoint of a run. With TLS, only the machine's own authority is trusted.
    ///
    /// # Errors
    /// The run uses TLS or a token, but the machine has no authority or no token.
    pub fn of(machine: &Machine, facts: &RunFacts, timeouts: Timeouts) -> Result<Self> {
        Self::connected_by(Marking::agent, machine, facts, timeouts)
    }

    /// Returns the endpoint as [`Self::of`] does, for a query of our own that is no use of the machine. The query is as long as
    /// this value.
    ///
    /// # Errors
    /// See [`Self::of`].
    pub fn for_queries(machine: &Machine, facts: &RunFacts, timeouts: Timeouts) -> Result<Self> {
        let query = Query::begin(&machine.dir);
        Ok(Self {
            _query: Some(Arc::new(query)),
            ..Self::connected_by(Marking::for_queries, machine, facts, timeouts)?
        })
    }

    fn connected_by(
        agent: fn(ureq::config::Config) -> ureq::Agent,
        machine: &Machine,
        facts: &RunFacts,
        timeouts: Timeouts,
    ) -> Result<Self> {
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(timeouts.connect)
            .timeout_global(timeouts.whole)
            .http_status_as_error(false)
            .max_redirects(0)
            // The endpoint is on this host, so the environment's HTTP proxy does not apply.
            .proxy(None);
        if facts.tls {
            let ca = Certificate::from_pem(read_text(&MachinePath::TlsAuthority.of(&machine.dir))?.as_bytes())
                .with_context(|| format!("{} is not a certificate", ca_file(&machine.dir).display()))?;
            config = config
                .https_only(true)
                .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[ca])).build());
        }
        let authorization = facts.auth.then(|| token(&machine.dir)).transpose()?.map(|token| format!("Bearer {token}"));
        Ok(Self { agent: agent(config.build()), origin: facts.url(""), authorization, _query: None })
    }

    /// Returns the same endpoint with connections of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { agent: Marking::agent(self.agent.config().clone()), ..self.clone() }
    }

    /// Closes its connections. Requests on them fail at once.
    pub fn close(&self) {
        self.agent.clone().shutdown();
    }

    /// Returns the URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Returns a POST request with the token.
    #[must_use]
    pub fn post(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        self.authorized(self.agent.post(self.url(path)))
    }

    /// Returns a GET request with the token.
    #[must_use]
    pub fn get(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        self.authorized(self.agent.get(self.url(path)))
    }

    /// Returns a PUT request with `token`, even if the endpoint requires none.
    #[must_use]
    fn put(&self, path: &str, token: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        self.agent.put(self.url(path)).header("Authorization", format!("Bearer {token}"))
    }

    /// Returns a DELETE request with the token.
    #[must_use]
    pub fn delete(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        self.authorized(self.agent.delete(self.url(path)))
    }

    fn authorized<T>(&self, request: ureq::RequestBuilder<T>) -> ureq::RequestBuilder<T> {
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
