//! TLS with the authorities of the machine.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where distributions keep the authorities.
const FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Returns a stream to a host inside a connection.
pub async fn wrap(stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(authorities()?)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn authorities() -> io::Result<RootCertStore> {
    let own = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let file = own.or_else(|| FILES.iter().map(PathBuf::from).find(|file| file.exists()));
    let file = file.ok_or_else(|| io::Error::other("no file with certificate authorities was found"))?;
    let certificates = CertificateDer::pem_file_iter(&file)
        .map_err(|error| io::Error::other(format!("cannot read {}: {error}", file.display())))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.flatten());
    Ok(store)
}
