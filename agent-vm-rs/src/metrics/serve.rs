//! Serves metrics over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tiny_http::{Header, Method, Request, Response, Server};

use super::exposition::Format;
use crate::host::interrupt;
use crate::term::error::Failure;

/// Interval at which a wait checks for signals.
const MOMENT: Duration = Duration::from_millis(100);
/// Where the metrics are.
const PATH: &str = "/metrics";

/// Serves what `metrics` returns until a signal arrives. `listening` is called once it does.
///
/// # Errors
/// The address cannot be bound, or a signal arrived.
pub fn serve(
    address: SocketAddr,
    listening: impl FnOnce(SocketAddr),
    metrics: impl Fn(Format) -> String,
) -> Result<()> {
    let server = Server::http(address).map_err(|error| {
        anyhow!("{error}").context(
            Failure::new(format!("cannot serve metrics on {address}"))
                .with_hint("choose another port: agent-vm metrics --listen PORT"),
        )
    })?;
    if let Some(own) = server.server_addr().to_ip() {
        listening(own);
    }
    loop {
        interrupt::check()?;
        match server.recv_timeout(MOMENT) {
            Ok(Some(request)) => answer(request, address.ip(), &metrics),
            Ok(None) => {}
            Err(error) => tracing::warn!("failed to accept a connection: {error}"),
        }
    }
}

fn answer(request: Request, own: IpAddr, metrics: &impl Fn(Format) -> String) {
    let value = |name: &'static str| {
        let header = request.headers().iter().find(|header| header.field.equiv(name));
        header.map(|header| header.value.as_str().to_owned()).unwrap_or_default()
    };
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, kind, text) = if !is_meant(&value("Host"), own) {
        (403, Format::Prometheus, "this server has another name\n".to_owned())
    } else if ![Method::Get, Method::Head].contains(request.method()) {
        (405, Format::Prometheus, "only GET is answered\n".to_owned())
    } else if path == PATH {
        let format = Format::accepted(&value("Accept"));
        (200, format, metrics(format))
    } else {
        (404, Format::Prometheus, format!("the metrics are at {PATH}\n"))
    };
    let response = Response::from_string(text).with_status_code(status);
    let response = match Header::from_bytes("Content-Type", kind.media_type()) {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    };
    if let Err(error) = request.respond(response) {
        tracing::info!("a client did not wait for the metrics: {error}");
    }
}

/// Checks that a request on loopback names this host: a web page that a browser loaded under another name must not read the
/// metrics.
fn is_meant(host: &str, own: IpAddr) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    !own.is_loopback() || name == "localhost" || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_loopback_are_refused() {
        let own = IpAddr::from([127, 0, 0, 1]);
        for host in ["localhost", "localhost:9477", "127.0.0.1:9477", "[::1]:9477"] {
            assert!(is_meant(host, own), "{host}");
        }
        for host in ["", "evil.test", "evil.test:9477", "127.0.0.1.evil.test"] {
            assert!(!is_meant(host, own), "{host}");
        }
        assert!(is_meant("box.test:9477", IpAddr::from([10, 0, 0, 1])));
    }
}
