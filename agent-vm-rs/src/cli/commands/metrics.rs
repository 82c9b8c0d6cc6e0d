//! `agent-vm metrics`

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use rustix::fs::statvfs;
use rustix::process::Signal;

use crate::host::files::{require_replaceable, write_unsynced};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::metrics::exposition::{self, write};
use crate::metrics::facts::Facts;
use crate::metrics::families::{Seen, Space, metrics as metrics_of};
use crate::metrics::{inside, serve};
use crate::term::error::{Failure, Interrupted};
use crate::term::output::print;
use crate::term::progress::note;
use crate::term::text::one_line;

/// A text format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Prometheus' own
    #[default]
    Prometheus,
    /// OpenMetrics
    Openmetrics,
}

/// Flags of `metrics`.
#[derive(Args, Clone, Debug)]
pub struct MetricsArgs {
    /// Write the metrics to FILE, for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    textfile: Option<PathBuf>,
    /// Serve the metrics over HTTP on an address of loopback, until a signal arrives
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Format; with --listen, the client chooses
    #[arg(long, value_name = "FORMAT", default_value = "prometheus")]
    format: Format,
    /// Leave out what the guests are asked for: MCP and its servers
    #[arg(long)]
    host_only: bool,
}

/// Parses an address with a port, or a port of loopback.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let named = || text.strip_prefix("localhost:")?.parse().ok();
    let address: Option<SocketAddr> = text.parse().ok().or_else(|| text.parse().ok().or_else(named).map(loopback));
    let hint = "on loopback: agent-vm metrics --listen 9477";
    match address {
        Some(address) if address.ip().is_loopback() => Ok(address),
        // They have neither a password nor TLS.
        Some(address) => {
            Err(Failure::usage(format!("metrics are served on loopback only, and not on {}", address.ip())).with_hint(
                format!("{hint}\nfor other hosts: agent-vm metrics --textfile FILE, with the node exporter"),
            ))
        }
        None => {
            Err(Failure::usage(format!("invalid address {:?}: it must be [ADDRESS:]PORT", one_line(text)))
                .with_hint(hint))
        }
    }
}

/// Prints, writes or serves the metrics of all machines.
///
/// # Errors
/// The state directory cannot be read, the file cannot be written, or the address cannot be bound.
pub fn metrics(context: &Context, args: &MetricsArgs) -> Result<()> {
    if let Some(address) = args.listen {
        return listen(context, address, args.host_only);
    }
    let format = match args.format {
        Format::Prometheus => exposition::Format::Prometheus,
        Format::Openmetrics => exposition::Format::OpenMetrics,
    };
    let text = text(context, format, args.host_only)?;
    match &args.textfile {
        None => print(&text),
        Some(file) => {
            require_replaceable(file)?;
            write_unsynced(file, text, 0o644)
        }
    }
}

fn listen(context: &Context, address: SocketAddr, host_only: bool) -> Result<()> {
    let listening = |address: SocketAddr| note(&format!("metrics are served at http://{address}/metrics"));
    let ended = serve::serve(address, listening, |format| text(context, format, host_only));
    // That is how a service manager ends it.
    ended.or_else(|error| match error.downcast_ref::<Interrupted>() {
        Some(Interrupted(signal)) if *signal == Signal::TERM.as_raw() => Ok(()),
        _ => Err(error),
    })
}

fn text(context: &Context, format: exposition::Format, host_only: bool) -> Result<String> {
    let names = context.state.names()?;
    let machines: Vec<_> = names.into_iter().map(|name| Machine::new(&context.state, name)).collect();
    let facts: Vec<_> = machines.iter().map(Facts::of).collect();
    let running: Vec<_> = if host_only {
        Vec::new()
    } else {
        machines.iter().zip(&facts).filter(|(_, facts)| facts.run.is_some()).map(|(machine, _)| machine).collect()
    };
    let mut answers = inside::ask(context, &running).into_iter();
    let seen = facts.into_iter().map(|facts| {
        let asked = running.iter().any(|machine| machine.name.as_str() == facts.name);
        let answer = if asked { answers.next() } else { None };
        (facts, answer)
    });
    let seen: Vec<_> = seen.collect();
    let directory = context.state.path().display().to_string();
    let space = statvfs(context.state.path()).ok();
    let space = space.map(|found| Space {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        size: found.f_blocks.saturating_mul(found.f_frsize),
    });
    crate::host::interrupt::check().context("the metrics are incomplete")?;
    Ok(write(&metrics_of(&Seen { machines: &seen, directory: &directory, space }), format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_loopback_unless_it_is_given() {
        let parsed = |text: &str| address(text).map(|address| address.to_string()).ok();
        assert_eq!(parsed("9477").as_deref(), Some("127.0.0.1:9477"));
        assert_eq!(parsed("localhost:9477").as_deref(), Some("127.0.0.1:9477"));
        assert_eq!(parsed("[::1]:9477").as_deref(), Some("[::1]:9477"));
        for elsewhere in ["0.0.0.0:9477", "[::]:9477", "192.0.2.1:9477", "[::ffff:127.0.0.1]:9477"] {
            assert!(address(elsewhere).unwrap_err().to_string().contains("loopback only"), "{elsewhere}");
        }
        for wrong in ["", ":9477", "box:9477", "70000", "127.0.0.1"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
