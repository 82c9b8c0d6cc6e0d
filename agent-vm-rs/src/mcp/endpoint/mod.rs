//! The MCP endpoint of a machine: its certificates, its token, and requests to it.

pub mod authority;
pub mod names;
pub mod renewal;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use self::names::Names;
use crate::host::files::{has_file, make_dir_durably, quoted, read_if_there, read_text, write_file};
use crate::host::hex;
use crate::machine::Machine;
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
        Ok(Self { agent: config.build().into(), origin: facts.url(""), authorization })
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
pub(crate) mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use crate::machine::state_dir::StateDir;

    fn machine(dir: &Path) -> Machine {
        Machine::new(&StateDir::locate(Some(dir)).unwrap(), "app-main".parse().unwrap())
    }

    fn facts(port: u16, tls: bool, auth: bool) -> RunFacts {
        let facts = serde_json::json!({
            "started": "1970-01-01T00:00:00Z", "host": "127.0.0.1", "port": port, "ssh_port": 1,
            "accel": "tcg", "share": "9p", "tls": tls, "auth": auth,
        });
        serde_json::from_value(facts).unwrap()
    }

    /// Returns an endpoint on loopback without TLS and without a token.
    pub(crate) fn plain(port: u16, limit: Duration) -> Endpoint {
        let timeouts = Timeouts { connect: None, whole: Some(limit) };
        Endpoint::of(&machine(Path::new("/nonexistent")), &facts(port, false, false), timeouts).unwrap()
    }

    /// Answers each TLS connection with the head of its request.
    fn echo(pair: &authority::Pair) -> u16 {
        serve(pair, true)
    }

    const CUT_OFF: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";

    /// Answers each TLS connection; without `ends`, the answer is cut off.
    fn serve(pair: &authority::Pair, ends: bool) -> u16 {
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let mut head = [0; 4096];
                let Ok(length) = stream.read(&mut head) else { continue };
                if !ends {
                    drop(stream.write_all(CUT_OFF.as_bytes()).and_then(|()| stream.flush()));
                    continue;
                }
                let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
                drop(stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&head[..length])));
                stream.conn.send_close_notify();
                drop(stream.flush());
            }
        });
        port
    }

    /// Sends a request of `machine` to a server that has the certificate `pair`, and returns what arrived.
    fn asked(machine: &Machine, pair: &authority::Pair) -> Result<String> {
        let timeouts = Timeouts { connect: None, whole: Some(Duration::from_secs(20)) };
        let endpoint = Endpoint::of(machine, &facts(echo(pair), true, true), timeouts)?;
        Ok(endpoint.get("/mcp").call()?.into_body().read_to_string()?)
    }

    #[test]
    fn authority_and_token_are_made_once_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let make = |address: [u8; 4]| ensure(dir.path(), "app-main", "localhost", address.into()).unwrap();
        make([127, 0, 0, 1]);
        let contents = |name: &str| fs::read_to_string(dir.path().join("tls").join(name)).unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join("tls").join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("ca.pem"), mode("ca.key"), mode("token")), (0o700, 0o644, 0o600, 0o600));
        assert!(contents("ca.pem").starts_with("-----BEGIN CERTIFICATE-----"));
        let before = (contents("ca.pem"), contents("token"));
        assert_eq!(before.1.trim().len(), 64);
        make([127, 0, 0, 1]);
        assert_eq!((contents("ca.pem"), contents("token")), before);
        // Another address needs another authority; the token is kept.
        make([192, 0, 2, 1]);
        assert!(contents("ca.pem") != before.0 && contents("token") == before.1);
    }

    #[test]
    fn only_a_certificate_of_the_machines_authority_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, other) = (machine(dir.path()), machine(&dir.path().join("other")));
        let settings = crate::machine::settings::tests::sample();
        let issue = |machine: &Machine| {
            let given = hand_over(machine, &settings, Ipv4Addr::LOCALHOST).unwrap();
            authority::Pair { certificate: given.certificate, key: given.key }
        };
        let (first, second, foreign) = (issue(&ours), issue(&ours), issue(&other));
        assert!(first.certificate != second.certificate && first.key != second.key);
        let token = fs::read_to_string(token_file(&ours.dir)).unwrap();
        let request = asked(&ours, &first).unwrap();
        assert!(request.to_lowercase().contains(&format!("authorization: bearer {}", token.trim())), "{request}");
        asked(&ours, &second).unwrap();
        // Control: the other machine, which trusts that authority, accepts the certificate.
        asked(&other, &foreign).unwrap();
        for (machine, pair) in [(&ours, &foreign), (&other, &first)] {
            let error = format!("{:#}", asked(machine, pair).unwrap_err());
            assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
        }
    }

    #[test]
    fn a_truncated_answer_has_an_error_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let ours = machine(dir.path());
        let given = hand_over(&ours, &crate::machine::settings::tests::sample(), Ipv4Addr::LOCALHOST).unwrap();
        let pair = authority::Pair { certificate: given.certificate, key: given.key };
        let timeouts = Timeouts { connect: None, whole: Some(Duration::from_secs(20)) };
        let endpoint = Endpoint::of(&ours, &facts(serve(&pair, false), true, true), timeouts).unwrap();
        let error = endpoint.get("/mcp").call().unwrap().into_body().read_to_string().unwrap_err();
        // Control: the library's own wording.
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), "io: Peer disconnected");
        let error = endpoint.get("/mcp").call().unwrap().into_body().read_to_string().unwrap_err();
        assert_eq!(format!("{:#}", connection_error(error)), "the connection was cut off");
        let mut body = endpoint.get("/mcp").call().unwrap().into_body().into_reader();
        let error = io::Read::read_to_end(&mut body, &mut Vec::new()).unwrap_err();
        assert_eq!(format!("{:#}", connection_error(error)), "the connection was cut off");
        // rustls's wording, by itself and wrapped by ureq.
        let rustls = || io::Error::new(io::ErrorKind::UnexpectedEof, "no close_notify: https://docs.example/manual");
        for error in [connection_error(rustls()), connection_error(ureq::Error::Io(rustls()))] {
            assert_eq!(format!("{error:#}"), "the connection was cut off");
        }
        // Helpful errors are unchanged.
        let refused = connection_error(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(format!("{refused:#}"), "connection refused");
    }

    #[test]
    fn the_authority_signs_only_the_machines_names() {
        let dir = tempfile::tempdir().unwrap();
        let ours = machine(dir.path());
        ensure(&ours.dir, "app-main", "localhost", Ipv4Addr::LOCALHOST).unwrap();
        let key = fs::read_to_string(ours.dir.join("tls/ca.key")).unwrap();
        let name = |dns: &str| Names { dns: vec![dns.to_owned()], addresses: vec![Ipv4Addr::LOCALHOST.into()] };
        // The authority's key can sign other names, but clients refuse those.
        asked(&ours, &authority::issue("app-main", &name("localhost"), &key).unwrap()).unwrap();
        let stolen = authority::issue("app-main", &name("bank.example"), &key).unwrap();
        let error = format!("{:#}", asked(&ours, &stolen).unwrap_err());
        assert!(error.contains("NameConstraintViolation"), "{error}");
    }
}
