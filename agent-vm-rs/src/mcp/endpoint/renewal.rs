//! Renews the certificate of a machine that runs for longer than its certificate lasts. The new one uses the same key,
//! so no secret is sent. It is sent to the reverse proxy over the connection that the old one secures.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};

use super::{Endpoint, Timeouts, authority, connection_error, names, token};
use crate::host::files::{read_if_there, read_text, write_file};
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::term::error::Failure;

/// Time limit for the reverse proxy's answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a guest accepts a renewed certificate.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// URL path to send it to; None for a guest built before renewal existed.
    pub path: Option<String>,
    /// Name of the credential that holds the private key.
    pub key: String,
}

/// Renews the certificate if two thirds of its lifetime are over. Returns whether it did.
///
/// # Errors
/// The reverse proxy does not answer or refuses the certificate. The old one stays in use.
pub fn renew_if_due(machine: &Machine, receiver: &Receiver, facts: &RunFacts) -> Result<bool> {
    if !facts.tls || !is_due(issued(machine, facts)?, Timestamp::now()) {
        return Ok(false);
    }
    let name = &machine.name;
    renew(machine, receiver, facts).with_context(|| {
        Failure::new(format!("failed to renew the MCP certificate of {name}"))
            .with_hint(format!("agent-vm restart {name}"))
    })?;
    Ok(true)
}

fn is_due(issued: Timestamp, now: Timestamp) -> bool {
    let lasts = SignedDuration::from_secs(authority::RUN.whole_seconds());
    now.duration_since(issued) > lasts / 3 * 2
}

/// Returns when the present certificate was issued.
///
/// # Errors
/// The record of a renewal cannot be read.
pub fn issued(machine: &Machine, facts: &RunFacts) -> Result<Timestamp> {
    let Some(text) = read_if_there(&machine.run().file(MachinePath::RunRenewed))? else { return Ok(facts.started) };
    // If the file is unreadable, renewing too early is harmless.
    Ok(text.trim().parse().unwrap_or(facts.started))
}

fn renew(machine: &Machine, receiver: &Receiver, facts: &RunFacts) -> Result<()> {
    let path = receiver.path.as_ref().context("the guest was built before certificates could be renewed")?;
    let settings = machine.settings()?;
    let names = names(&settings.host, facts.host);
    // A new name needs a new authority, which clients do not know yet; the next start makes it.
    let made_for = read_text(&MachinePath::TlsNames.of(&machine.dir))?;
    ensure!(
        names.hosts().join("\n") == made_for.trim_end(),
        "the name or address of this host changed since the machine started"
    );
    let credentials = MachinePath::Credentials.of(&machine.dir);
    let key = read_text(&credentials.join(&receiver.key))?;
    let certificate = authority::renew(
        machine.name.as_str(),
        &names,
        &read_text(&MachinePath::TlsAuthorityKey.of(&machine.dir))?,
        &key,
    )?;
    let endpoint = Endpoint::for_queries(machine, facts, Timeouts { connect: Some(TIMEOUT), whole: Some(TIMEOUT) })?;
    let answer = endpoint.put(path, &token(&machine.dir)?).send(certificate).map_err(connection_error);
    let status = answer.context("the reverse proxy does not answer")?.status();
    ensure!(status.is_success(), "the reverse proxy answered with HTTP status {status}");
    write_file(&machine.run().file(MachinePath::RunRenewed), format!("{}\n", Timestamp::now()), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_due_before_the_certificate_expires() {
        let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
        for (now, due) in [(0, false), (59, false), (61, true), (200, true), (-5, false)] {
            assert_eq!(is_due(day(0), day(now)), due, "{now}");
        }
    }
}
