//! `agent-vm start --foreground`: the command runs as long as the machine, for a service manager.

use std::time::Duration;

use anyhow::Result;
use sd_notify::NotifyState;

use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::events::{self, What};
use crate::term::error::{EXIT_EXPIRED, Failure, Interrupted};
use crate::term::progress::note;
use crate::vm::{failure, shutdown};

/// Interval between checks whether the machine runs.
const INTERVAL: Duration = Duration::from_millis(200);
/// Time to wait for another command's lock before the machine is stopped.
const LOCK: Duration = Duration::from_secs(30);

/// Starts a machine with `up`, reports readiness to the service manager, and waits until the machine ends. A signal stops
/// the machine; a second one kills it.
///
/// # Errors
/// The machine does not start (it does not keep running then), fails, or does not stop.
pub fn run(
    context: &Context,
    machine: &Machine,
    up: impl Fn() -> Result<()>,
    announce: impl Fn() -> Result<()>,
) -> Result<()> {
    let was_running = machine.run().qemu().is_some();
    if let Err(error) = up() {
        // A machine that another command started is not this command's to stop yet.
        if !was_running && machine.run().qemu().is_some() {
            stop(context, machine)?;
        }
        return Err(error);
    }
    report(&[NotifyState::Ready, NotifyState::Status(&format!("{} answers", machine.name))]);
    let announced = match announce() {
        // Another command may have stopped or restarted the machine meanwhile: only its end is the result.
        Err(error) if !error.is::<Interrupted>() => {
            tracing::warn!("failed to show the machine: {error:#}");
            Ok(())
        }
        other => other,
    };
    match announced.and_then(|()| follow(context, machine)) {
        Err(error) if error.is::<Interrupted>() => stop(context, machine),
        Err(error) => stop(context, machine).and(Err(error)),
        Ok(failure) => {
            report(&[NotifyState::Stopping]);
            note(&format!("{} ended", machine.name));
            failure.map_or(Ok(()), |failure| Err(failure.into()))
        }
    }
}

/// Waits until the machine ends. A restart by another command is not its end. Returns a failure if the run failed or a time limit
/// stopped it, rather than that the guest powered off or a command stopped it.
fn follow(context: &Context, machine: &Machine) -> Result<Option<Failure>> {
    let run = machine.run();
    loop {
        while run.qemu().is_some() {
            interrupt::check()?;
            std::thread::sleep(INTERVAL);
        }
        // A command that restarts the machine holds the lock between its end and its start.
        let _lock = machine.lock_name(context.deadline())?;
        if run.qemu().is_some() {
            continue;
        }
        // Another command may have cleaned up or destroyed the machine meanwhile.
        if machine.exists() {
            shutdown::clean_up(machine)?;
        }
        let name = &machine.name;
        if let Some(end) = events::last_end(&machine.dir).map(|event| event.what)
            && matches!(end, What::IdleStop { .. } | What::TtlStop { .. })
        {
            // The service manager must not start it again.
            return Ok(Some(
                Failure::new(format!(
                    "{name} was stopped by a time limit: {}",
                    end.line().trim_start_matches("stopped: ")
                ))
                .with_hint(format!("agent-vm start {name}"))
                .exit(EXIT_EXPIRED),
            ));
        }
        return Ok(failure::of_last_run(machine).map(|reason| {
            Failure::new(format!("{name} failed: {reason}")).with_hint(format!("agent-vm logs --console {name}"))
        }));
    }
}

/// Stops the machine as `agent-vm stop` does.
fn stop(context: &Context, machine: &Machine) -> Result<()> {
    report(&[NotifyState::Stopping, NotifyState::Status(&format!("stopping {}", machine.name))]);
    interrupt::acknowledge();
    let stopped =
        machine.lock_name(context.deadline().at_most(LOCK)).and_then(|_lock| shutdown::stop(machine, context.timeout));
    match stopped {
        Ok(outcome) => {
            note(&format!("{}: {outcome}", machine.name));
            Ok(())
        }
        Err(error) if error.is::<Interrupted>() => shutdown::clean_up(machine).and(Err(error)),
        Err(error) => Err(error),
    }
}

/// Reports to the service manager, if one started this command.
fn report(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("failed to report to the service manager: {error}");
    }
}
