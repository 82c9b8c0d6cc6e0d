//! Another certificate for a machine that runs for longer than one lasts. It is for the same key, so that nothing secret is
//! handed over, and goes to the gate over the connection that the present one secures.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};

use super::{Endpoint, Timeouts, authority, in_words, names, token};
use crate::host::files::{read_if_there, read_text, write_file};
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::term::error::Failure;

/// For the gate to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a guest takes another certificate.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Path of its URL; None of a guest that is older than this.
    pub path: Option<String>,
    /// Name of the credential with the key.
    pub key: String,
}

/// Renews the certificate of a run if two thirds of its time are over; tells whether it was.
///
/// # Errors
/// The gate does not take it, or does not answer. The one before stays in use.
pub fn renew_if_due(machine: &Machine, receiver: &Receiver, facts: &RunFacts) -> Result<bool> {
    if !facts.tls || !is_due(issued(machine, facts)?, Timestamp::now()) {
        return Ok(false);
    }
    let name = &machine.name;
    renew(machine, receiver, facts).with_context(|| {
        Failure::new(format!("failed to renew the certificate of {name}'s MCP"))
            .with_hint(format!("agent-vm restart {name} makes a new one"))
    })?;
    Ok(true)
}

fn is_due(issued: Timestamp, now: Timestamp) -> bool {
    let lasts = SignedDuration::from_secs(authority::RUN.whole_seconds());
    now.duration_since(issued) > lasts / 3 * 2
}

/// When the present one was made.
fn issued(machine: &Machine, facts: &RunFacts) -> Result<Timestamp> {
    let Some(text) = read_if_there(&machine.run().file(MachinePath::RunRenewed))? else { return Ok(facts.started) };
    // What cannot be read was renewed at an unknown time: once more does no harm.
    Ok(text.trim().parse().unwrap_or(facts.started))
}

fn renew(machine: &Machine, receiver: &Receiver, facts: &RunFacts) -> Result<()> {
    let path = receiver.path.as_ref().context("its guest is older than this agent-vm")?;
    let settings = machine.settings()?;
    let names = names(&settings.host, facts.host);
    // Another authority is for the next start: clients have this one's certificate.
    let made_for = read_text(&MachinePath::TlsNames.of(&machine.dir))?;
    ensure!(names.hosts().join("\n") == made_for.trim_end(), "this host has another name or address by now");
    let credentials = MachinePath::Credentials.of(&machine.dir);
    let key = read_text(&credentials.join(&receiver.key))?;
    let certificate = authority::renew(
        machine.name.as_str(),
        &names,
        &read_text(&MachinePath::TlsAuthorityKey.of(&machine.dir))?,
        &key,
    )?;
    let endpoint = Endpoint::of(machine, facts, Timeouts { connect: Some(TIMEOUT), whole: Some(TIMEOUT) })?;
    let answer = endpoint.put(path, &token(&machine.dir)?).send(certificate).map_err(in_words);
    let status = answer.context("the gate does not answer")?.status();
    ensure!(status.is_success(), "the gate answers {status}");
    write_file(&machine.run().file(MachinePath::RunRenewed), format!("{}\n", Timestamp::now()), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_well_before_its_end() {
        let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
        for (now, due) in [(0, false), (59, false), (61, true), (200, true), (-5, false)] {
            assert_eq!(is_due(day(0), day(now)), due, "{now}");
        }
    }
}
