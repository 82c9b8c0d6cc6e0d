//! Runs nginx as the reverse proxy in front of the gateway, with credentials from the host.
//!
//! Certificate, key, token and settings are systemd credentials. nginx reads the key from the credential, and the certificate from
//! a copy that the host can replace. The token is copied only to nginx's configuration, which no other account can read.

mod config;
mod credentials;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use self::config::{Endpoint, Pair, render};
use self::credentials::{Settings, text};

/// Flags of `reverse-proxy`.
#[derive(Args, Clone, Debug)]
pub struct ReverseProxyArgs {
    /// Path of nginx
    #[arg(long, value_name = "PROGRAM")]
    nginx: PathBuf,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: String,
    /// Port of the gateway on the loopback
    #[arg(long, value_name = "PORT")]
    inner_port: String,
    /// Name of the credential with the endpoint's settings
    #[arg(long, value_name = "NAME")]
    endpoint_credential: String,
    /// Name of the credential with the certificate
    #[arg(long, value_name = "NAME")]
    certificate_credential: String,
    /// Name of the credential with the certificate's key
    #[arg(long, value_name = "NAME")]
    key_credential: String,
    /// Name of the credential with the token
    #[arg(long, value_name = "NAME")]
    token_credential: String,
    /// URL path for replacing the certificate
    #[arg(long, value_name = "PATH")]
    renewal_path: String,
    /// Web origin that may call; can be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
}

/// Why there is no endpoint. The text contains no secret.
#[derive(Debug)]
pub struct Refused(String);

impl Refused {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Writes nginx's configuration and becomes nginx; returns only after a failure.
///
/// # Errors
/// Settings or credentials are missing or invalid, or nginx cannot be executed.
pub fn run(args: &ReverseProxyArgs) -> Result<std::convert::Infallible, Refused> {
    let (runtime, credentials) = (directory("RUNTIME_DIRECTORY")?, directory("CREDENTIALS_DIRECTORY")?);
    let config = configure(args, &credentials, &runtime)?;
    // Errors go to stderr until the configuration is read, and not to nginx's compiled-in log file.
    let error = Command::new(&args.nginx).args(["-e", "stderr", "-c"]).arg(config).exec();
    Err(Refused::new(format!("cannot execute {}: {error}", args.nginx.display())))
}

fn directory(variable: &str) -> Result<PathBuf, Refused> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| Refused::new(format!("{variable} is not set: systemd must start this with credentials")))
}

/// Writes nginx's configuration, and returns its path.
fn configure(args: &ReverseProxyArgs, credentials: &Path, runtime: &Path) -> Result<PathBuf, Refused> {
    let text = render(&endpoint(args, credentials, runtime)?)?;
    let path = runtime.join("nginx.conf");
    write(&path, text.as_bytes(), 0o400)
        .map_err(|error| Refused::new(format!("cannot write {}: {error}", path.display())))?;
    Ok(path)
}

/// Returns the endpoint of the host's credentials.
fn endpoint(args: &ReverseProxyArgs, credentials: &Path, runtime: &Path) -> Result<Endpoint, Refused> {
    let Settings { tls, auth, hosts } = Settings::read(&credentials.join(&args.endpoint_credential))?;
    let (certificate, key) = (credentials.join(&args.certificate_credential), credentials.join(&args.key_credential));
    if tls && !(certificate.is_file() && key.is_file()) {
        return Err(Refused::new("TLS is on, but the certificate or its key is missing"));
    }
    let token = text(&credentials.join(&args.token_credential))?.map(|token| token.trim().to_owned());
    if auth && token.is_none() {
        return Err(Refused::new("a token is required, but its credential is missing"));
    }
    let certificate = if tls { Some(renewable(&certificate, runtime)?) } else { None };
    Ok(Endpoint {
        listen: args.listen.clone(),
        inner_port: args.inner_port.clone(),
        origins: args.allow_origin.clone(),
        hosts,
        certificate: certificate
            .map(|path| Pair { certificate: path.display().to_string(), key: key.display().to_string() }),
        token: token.clone().filter(|_| auth),
        renewal_token: token,
        renewal_path: args.renewal_path.clone(),
        runtime: runtime.to_owned(),
    })
}

/// Copies the certificate to a file that can be replaced. A replaced one is kept when the service restarts.
fn renewable(credential: &Path, runtime: &Path) -> Result<PathBuf, Refused> {
    let (current, first) = (runtime.join("certificate.pem"), runtime.join("first-certificate.pem"));
    let copy = || -> io::Result<()> {
        let data = fs::read(credential)?;
        if !(current.is_file() && fs::read(&first).is_ok_and(|before| before == data)) {
            write(&current, &data, 0o600)?;
            write(&first, &data, 0o600)?;
        }
        Ok(())
    };
    copy().map_err(|error| Refused::new(format!("cannot copy the certificate: {error}")))?;
    Ok(current)
}

/// Writes a new file in the place of an old one.
fn write(path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(data)
}

#[cfg(test)]
mod tests;
