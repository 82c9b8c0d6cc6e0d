//! Ports of this host's loopback that lead to a machine's loopback. One process for each machine keeps them: it runs ssh, starts
//! it again when it ends, and follows the machine's settings.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Ssh;
use super::session::ending_with_us;
use crate::host::files::{read_text, remove_file, write_unsynced};
use crate::host::interrupt::{self, Deadline};
use crate::host::ports;
use crate::host::process::{Child, Invocation, Pauses, ProcessId};
use crate::limits::Means;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::forward::Forward;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;
use crate::machine::settings::Settings;
use crate::term::error::on_one_line;
use crate::term::progress::note;

/// Time for an ssh login to a busy guest.
const LOGIN: Duration = Duration::from_secs(60);
/// Time for ssh, on this host, to open or close a port.
const CHANGE: Duration = Duration::from_secs(10);
/// Time for all forwards of a machine that has just started.
const RESTORE: Duration = Duration::from_secs(30);
/// Interval between checks of the settings and the processes.
const INTERVAL: Duration = Duration::from_millis(100);
/// Interval between attempts to forward a port that is in use.
const RETRY: Duration = Duration::from_secs(5);
/// Shortest and longest pause before a restart of ssh. The pause doubles with each failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A forward, and whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForwardState {
    /// Port in the machine.
    pub guest: u16,
    /// Address on this host.
    pub address: Ipv4Addr,
    /// Port on this host.
    pub host: u16,
    /// `forwarded`, `failed`, `starting`, or `stopped` with the machine.
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
}

impl ForwardState {
    /// Returns the forward and its state for people.
    #[must_use]
    pub fn line(&self) -> String {
        let why = self.error.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        format!("{}:{} to port {} ({}{why})", self.address, self.host, self.guest, self.state)
    }
}

/// A forward that was attempted, as the keeper writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attempt {
    forward: Forward,
    error: Option<String>,
}

/// Returns the states of a machine's forwards.
#[must_use]
pub fn states(machine: &Machine, settings: &Settings) -> Vec<ForwardState> {
    if settings.forwards.is_empty() {
        return Vec::new();
    }
    let run = machine.run();
    let runs = run.qemu().is_some();
    let attempts = if runs && is_kept(&run) { attempts(&run) } else { Vec::new() };
    let state = |forward: &Forward| {
        let attempt = attempts.iter().find(|attempt| attempt.forward == *forward);
        let (state, error) = match attempt {
            Some(Attempt { error: None, .. }) => ("forwarded", None),
            Some(Attempt { error: Some(why), .. }) => ("failed", Some(why.clone())),
            None if !runs => ("stopped", None),
            None if !is_kept(&run) && run.file(MachinePath::ForwardsPid).exists() => {
                ("failed", Some("the process that forwards ports has ended".to_owned()))
            }
            None => ("starting", None),
        };
        ForwardState { guest: forward.guest, address: Ipv4Addr::LOCALHOST, host: forward.host, state, error }
    };
    settings.forwards.iter().map(state).collect()
}

fn is_kept(run: &RunDir) -> bool {
    ProcessId::read(&run.file(MachinePath::ForwardsPid)).is_some()
}

fn attempts(run: &RunDir) -> Vec<Attempt> {
    let text = read_text(&run.file(MachinePath::Forwards)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Starts the forwards of a machine that has started, and waits for them. A failed one is a notice.
///
/// # Errors
/// The command was interrupted.
pub fn restore(context: &Context, machine: &Machine) -> Result<()> {
    let Ok(settings) = machine.settings() else { return Ok(()) };
    if settings.forwards.is_empty() && !machine.run().file(MachinePath::ForwardsPid).exists() {
        return Ok(());
    }
    let states = match ensure(context, machine, &settings) {
        Ok(states) => states,
        Err(error) => {
            interrupt::check()?;
            note(&format!("notice: no port is forwarded to {}: {}", machine.name, on_one_line(&format!("{error:#}"))));
            return Ok(());
        }
    };
    for ForwardState { guest, host, error, .. } in states {
        if let Some(why) = error {
            note(&format!("notice: port {host} is not forwarded to port {guest} of {}: {why}", machine.name));
        }
    }
    Ok(())
}

/// Starts the process that keeps the forwards unless it runs, and waits until it has attempted all forwards of the settings. Returns
/// their states.
///
/// # Errors
/// It cannot be started, it ends, or it takes too long.
pub fn ensure(context: &Context, machine: &Machine, settings: &Settings) -> Result<Vec<ForwardState>> {
    let run = machine.run();
    let log = run.file(MachinePath::ForwardsLog);
    let started = if is_kept(&run) { None } else { Some(start(context, machine)?) };
    let deadline = Deadline::after(context.timeout.unwrap_or(RESTORE));
    deadline.poll("the port forwarding", Duration::from_millis(20), || {
        if let Some(process) = &started {
            process.check_alive(&log)?;
        }
        let attempts = attempts(&run);
        let is_attempted = |forward: &Forward| attempts.iter().any(|attempt| attempt.forward == *forward);
        let is_wanted = |attempt: &Attempt| settings.forwards.contains(&attempt.forward);
        let done = settings.forwards.iter().all(is_attempted) && attempts.iter().all(is_wanted);
        Ok(done.then(|| states(machine, settings)))
    })
}

fn start(context: &Context, machine: &Machine) -> Result<crate::host::process::Detached> {
    let run = machine.run();
    remove_file(&run.file(MachinePath::Forwards))?;
    let own = crate::host::programs::own_path()?;
    let keeper = Invocation::new(own)
        .arg("--state-dir")
        .arg(context.state.path())
        .args(["keep-forwards", machine.name.as_str()])
        .of_machine(&machine.dir);
    let keeper = Means::of_run(&machine.dir)
        .around(&keeper)
        .start_detached(&run.file(MachinePath::ForwardsLog))?
        .called("the port forwarding");
    if let Some(id) = ProcessId::of(keeper.pid()?) {
        id.write(&run.file(MachinePath::ForwardsPid))?;
    }
    Ok(keeper)
}

/// Keeps the forwards of a machine's settings until QEMU ends or a signal arrives.
///
/// # Errors
/// The machine does not run, or a file cannot be written.
pub fn keep(context: &Context, machine: &Machine) -> Result<()> {
    let (guest, facts) = crate::guest::running::running(machine)?;
    let qemu = machine.run().qemu().context("the machine has ended")?;
    let ssh = Ssh::to(machine, &guest.manifest, &facts, context.verbosity).with_socket(MachinePath::ForwardsSocket);
    let mut pauses = Pauses::between(PAUSES.0, PAUSES.1);
    while qemu.alive() {
        let began = Instant::now();
        let ended = Keeper::connect(&ssh).and_then(|mut keeper| keeper.follow(&qemu));
        interrupt::check()?;
        let Err(error) = ended else { continue };
        tracing::warn!("{error:#}");
        // Until the next attempt, no port is forwarded.
        let why = on_one_line(&format!("{error:#}"));
        let forwards = machine.settings().map(|settings| settings.forwards).unwrap_or_default();
        let lost = forwards.into_iter().map(|forward| Attempt { forward, error: Some(why.clone()) });
        write(&machine.run(), lost.collect())?;
        pauses.sleep(began, &qemu, INTERVAL)?;
    }
    Ok(())
}

fn write(run: &RunDir, attempts: Vec<Attempt>) -> Result<()> {
    let text = serde_json::to_string(&attempts).context("failed to write the forwards as JSON")?;
    write_unsynced(&run.file(MachinePath::Forwards), text + "\n", 0o600)
}

/// One ssh connection with its forwards.
struct Keeper<'a> {
    ssh: &'a Ssh<'a>,
    master: Child,
    /// Each attempted forward: why it failed, and when.
    attempts: BTreeMap<Forward, Option<(String, Instant)>>,
}

impl<'a> Keeper<'a> {
    fn connect(ssh: &'a Ssh<'a>) -> Result<Self> {
        let run = ssh.machine.run();
        let (socket, log) = (run.file(MachinePath::ForwardsSocket), run.file(MachinePath::ForwardsLog));
        remove_file(&socket)?;
        let master = Child::start(&ending_with_us(&ssh.master(LOGIN), "TERM"), "ssh")?;
        Deadline::after(LOGIN).poll("an ssh login", Duration::from_millis(20), || {
            master.check(&log)?;
            Ok(socket.exists().then_some(()))
        })?;
        Ok(Self { ssh, master, attempts: BTreeMap::new() })
    }

    /// Follows the settings until QEMU or ssh ends.
    fn follow(&mut self, qemu: &ProcessId) -> Result<()> {
        let machine = self.ssh.machine;
        let log = machine.run().file(MachinePath::ForwardsLog);
        let mut seen = None;
        while qemu.alive() {
            interrupt::check()?;
            self.master.check(&log)?;
            let now = changed(machine);
            let due = |why: &Option<(String, Instant)>| why.as_ref().is_some_and(|(_, at)| at.elapsed() > RETRY);
            if seen.is_none() || seen != now || self.attempts.values().any(due) {
                // Unreadable settings change nothing.
                if let Ok(settings) = machine.settings() {
                    self.adopt(&settings.forwards)?;
                }
                seen = now;
            }
            self.master.wait(INTERVAL)?;
        }
        Ok(())
    }

    fn adopt(&mut self, wanted: &[Forward]) -> Result<()> {
        let gone: Vec<_> = self.attempts.keys().copied().filter(|forward| !wanted.contains(forward)).collect();
        for forward in gone {
            if self.attempts.remove(&forward) == Some(None) {
                self.ssh.forwarding("cancel", forward).time_limit(CHANGE).checked()?;
            }
        }
        for forward in wanted {
            if self.attempts.get(forward) != Some(&None) {
                let why = self.attempt(*forward).map(|why| (why, Instant::now()));
                self.attempts.insert(*forward, why);
            }
        }
        let attempts = self.attempts.iter();
        let attempts = attempts
            .map(|(forward, why)| Attempt { forward: *forward, error: why.as_ref().map(|(why, _)| why.clone()) });
        write(&self.ssh.machine.run(), attempts.collect())
    }

    /// Opens a port. Returns why that failed.
    fn attempt(&self, forward: Forward) -> Option<String> {
        // ssh's own message goes to the log only.
        let refused = ports::require_free(Ipv4Addr::LOCALHOST, forward.host, "").err();
        let refused = refused.or_else(|| self.ssh.forwarding("forward", forward).time_limit(CHANGE).checked().err())?;
        Some(on_one_line(&refused.to_string()))
    }
}

/// Returns when the settings changed last.
fn changed(machine: &Machine) -> Option<SystemTime> {
    MachinePath::Settings.of(&machine.dir).metadata().ok()?.modified().ok()
}

impl Ssh<'_> {
    /// Returns the command that opens or closes (`forward` or `cancel`) a port of this host's loopback, through the control master.
    /// In the guest, localhost is 127.0.0.1 and ::1.
    fn forwarding(&self, change: &str, forward: Forward) -> Invocation {
        let Forward { guest, host } = forward;
        let forward = format!("127.0.0.1:{host}:localhost:{guest}");
        self.base().args(["-O", change, "-L", &forward, "--", &self.destination()])
    }
}
