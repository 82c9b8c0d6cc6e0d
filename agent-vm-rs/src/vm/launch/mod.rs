//! Starts a machine: builds its guest, makes its disk and keys, starts virtiofsd and QEMU, and waits for ssh, the
//! service and MCP.

mod causes;
mod notices;
mod processes;
mod run;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::run::Run;
use crate::confine::{self, Confinement};
use crate::git::saved_work::SavedWork;
use crate::guest::installation::Toolkit;
use crate::guest::manifest::Share;
use crate::guest::{Guest, Recipe, images};
use crate::host::files::{is_absent, make_private_dir};
use crate::host::log_file;
use crate::host::process::{Detached, ProcessId, signal_in};
use crate::host::user_dirs::cache_dir;
use crate::machine::accel::Accel;
use crate::machine::context::Context;
use crate::machine::events::{self, What};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::machine::{Machine, helpers, sweep};
use crate::remote::ssh::forwards;
use crate::term::error::{EXIT_TIMEOUT, Failure};
use crate::term::progress::note;
use crate::vm::diagnosis::{Ending, Evidence};
use crate::vm::phases::Phases;
use crate::vm::qemu_args::Virtiofsd;
use crate::vm::{accel, failure, overcommit, readiness, shutdown, virtiofsd, workspace_guard};

/// Time for the process that made QEMU's namespaces to end after QEMU.
const STATUS: Duration = Duration::from_secs(2);

/// Starts a stopped machine. The caller holds its lock. If it fails, nothing keeps running, unless only the service
/// inside the guest failed: then the machine stays up, so that the user can examine it.
///
/// `package` is an already built guest package; without one, the machine's own is built.
///
/// # Errors
/// A step fails. If the guest did not start completely, the last lines of its console are printed too.
pub fn launch(context: &Context, machine: &Machine, package: Option<&Path>) -> Result<()> {
    check(machine)?;
    shutdown::clean_up(machine)?;
    failure::forget(machine)?;
    close_to_others(machine)?;
    sweep::scratch(&machine.dir)?;
    let settings = context.timeline.run("settings", || settings(context, machine))?;
    // Report missing confinement before building a guest, which takes long.
    let (confinement, reason) = context.timeline.run("confinement", || confine::choose(&machine.dir))?;
    notices::confinement(&confinement, reason);
    let cache = cache_dir()?;
    make_private_dir(&cache)?;
    let daemon = daemon(machine);
    let share = if daemon.is_some() { Share::Virtiofs } else { Share::NineP };
    let guest = match package {
        Some(package) => built_beforehand(machine, &settings, package, share)?,
        None => guest(context, machine, &settings, share, &cache)?,
    };
    notices::old_packages(machine, &guest);
    guest.manifest.qemu.start()?;
    overcommit::warnings(machine, &settings).iter().for_each(|warning| note(warning));
    let program = guest.manifest.qemu.program()?;
    let accel = context.timeline.run("KVM", || accelerator(context, machine, &guest, &confinement, &cache))?;
    let mut phases = Phases::new(&format!("{}/{}", settings.guest, accel.as_str()), &cache, &context.timeline);
    let run = Run {
        context,
        machine,
        settings: &settings,
        guest: &guest,
        guest_package: package.map(|_| guest.package.clone()),
        accel,
        daemon,
        confinement: if accel == Accel::Kvm { confinement.with_kvm() } else { confinement },
        qemu: confine::mount::installation(&program),
        program,
    };
    match run.begin(&mut phases) {
        Ok((qemu, facts)) => come_up(&run, &qemu, &facts, phases),
        Err(error) => {
            shutdown::clean_up(machine)?;
            Err(error)
        }
    }
}

/// Checks the machine's files, as [`Machine::check`] does, and names a workspace that a killed `destroy` moved.
fn check(machine: &Machine) -> Result<()> {
    let name = &machine.name;
    if is_absent(&machine.workspace())
        && let Some(moved) = SavedWork::of(machine, None)?.unfinished()
    {
        return Err(Failure::new(format!(
            "an interrupted destroy has moved the workspace of {name} to {}",
            moved.display()
        ))
        .with_hint(format!("to complete it and keep the workspace: agent-vm destroy {name}"))
        .into());
    }
    machine.check()
}

/// Builds a machine's guest as its next start would. The caller holds its lock.
///
/// # Errors
/// The settings cannot be read, or the build fails.
pub fn build(context: &Context, machine: &Machine) -> Result<()> {
    check(machine)?;
    let cache = cache_dir()?;
    make_private_dir(&cache)?;
    let share = if virtiofsd::find().is_ok() { Share::Virtiofs } else { Share::NineP };
    guest(context, machine, &stored(context, machine)?, share, &cache).map(drop)
}

/// Returns the machine's settings, with this command's arguments for Nix.
fn stored(context: &Context, machine: &Machine) -> Result<Settings> {
    let mut settings = machine.settings()?;
    if let Some(nix_args) = &context.nix_args {
        settings.nix_args.clone_from(nix_args);
    }
    Ok(settings)
}

/// Returns the settings of this start, and prints a warning if MCP is not protected.
fn settings(context: &Context, machine: &Machine) -> Result<Settings> {
    let settings = stored(context, machine)?;
    if let Some(warning) = settings.endpoint_warning() {
        note(&warning);
    }
    Ok(settings)
}

/// Returns virtiofsd; None with a notice if this host has none that can be used.
fn daemon(machine: &Machine) -> Option<Virtiofsd> {
    let daemon = virtiofsd::find();
    match &daemon {
        Ok(daemon) => notices::open_files(machine, daemon),
        Err(why) => note(&format!("notice: {why:#}: the workspace is shared over 9p, which is slower")),
    }
    daemon.ok()
}

/// Returns the accelerator, with notices if it is slow.
fn accelerator(
    context: &Context,
    machine: &Machine,
    guest: &Guest,
    confinement: &Confinement,
    cache: &Path,
) -> Result<Accel> {
    let choice = accel::choose(guest, confinement, cache)?;
    if let Some(notice) = choice.notice(&machine.name) {
        note(&notice);
    }
    let accel = choice.accel();
    if accel == Accel::Tcg {
        let limit = context.start_limit(accel.as_str()).as_secs();
        note(&format!("  an emulated machine has {limit} s to start; to change that: --timeout SECONDS"));
    }
    Ok(accel)
}

/// Waits until the guest of a run answers.
fn come_up(run: &Run<'_>, qemu: &Detached, facts: &RunFacts, mut phases: Phases) -> Result<()> {
    let Run { context, machine, guest, .. } = *run;
    // The watcher starts later, and the guest can write already.
    let _guard = workspace_guard::Keeper::start(machine);
    let console = machine.run().file(MachinePath::RunConsole);
    let again = format!("agent-vm start {}", machine.name);
    let end = || {
        qemu.check_alive(&console)?;
        if machine.run().qemu().is_none() {
            // The process that made the namespaces ends a moment later, with QEMU's status.
            qemu.wait(STATUS)?;
            qemu.check_alive(&console)?;
        }
        Ok(())
    };
    let alive = || causes::check(machine, facts, &again, &end);
    match readiness::wait(context, machine, guest, facts, &alive, &mut phases) {
        Ok(()) => {
            phases.save();
            machine.run().note_started()?;
            let took = jiff::Timestamp::now().duration_since(facts.started).as_millis();
            events::record(&machine.dir, What::Ready { after_ms: u64::try_from(took).unwrap_or(0) });
            notices::limits(run.settings, facts, &machine.run());
            notices::space(machine, facts);
            forwards::restore(context, machine)
        }
        Err(error) if error.is::<readiness::ServiceDown>() => {
            events::record(&machine.dir, What::StartFailed { reason: events::short(&format!("{error:#}")) });
            machine.run().note_started()?;
            forwards::restore(context, machine)?;
            Err(error)
        }
        Err(error) => {
            events::record(&machine.dir, What::StartFailed { reason: events::short(&format!("{error:#}")) });
            shutdown::clean_up(machine)?;
            Err(with_console(context, machine, error))
        }
    }
}

/// Waits until a running machine answers. Another command may still be starting it, or may have been killed meanwhile.
///
/// # Errors
/// It does not answer in time. It keeps running.
pub fn join(context: &Context, machine: &Machine, qemu: &ProcessId, facts: &RunFacts) -> Result<()> {
    let guest = Guest::of(machine)?;
    // Fail if a process has ended that only a restart starts again; kill suspended ones that this start starts again.
    helpers::check(machine, facts)?;
    workspace_guard::check(machine, facts)?;
    helpers::end_suspended(&machine.run(), facts);
    let mut phases = Phases::new("running", &cache_dir()?, &context.timeline);
    let name = &machine.name;
    let end = || {
        if qemu.alive() {
            return Ok(());
        }
        Err(Failure::new(format!("{name} ended")).with_hint(format!("agent-vm start {name}")).into())
    };
    let again = format!("agent-vm restart {name}");
    let alive = || causes::check(machine, facts, &again, &end);
    readiness::wait(context, machine, &guest, facts, &alive, &mut phases)?;
    machine.run().note_started()?;
    notices::space(machine, facts);
    forwards::restore(context, machine)
}

fn built_beforehand(machine: &Machine, settings: &Settings, package: &Path, share: Share) -> Result<Guest> {
    let guest = Guest::use_package(machine, package, settings.guest)?;
    if (guest.manifest.workspace.share, share) == (Share::Virtiofs, Share::NineP) {
        return Err(Failure::new(format!("the guest package {} needs virtiofsd, which is missing", package.display()))
            .with_hint("install virtiofsd, or build the package with share = \"9p\"")
            .into());
    }
    Ok(guest)
}

fn guest(context: &Context, machine: &Machine, settings: &Settings, share: Share, cache: &Path) -> Result<Guest> {
    let recipe = Recipe::new(settings, &Toolkit::locate()?, share)?;
    if let Some(guest) = Guest::current(machine, &recipe) {
        images::register(&guest.package, &machine.dir);
        return Ok(guest);
    }
    let phases = Phases::new(&settings.guest.to_string(), cache, &context.timeline);
    let guest = phases.run_unmeasured("guest", || Guest::build(machine, &recipe, cache, context))?;
    Ok(guest)
}

/// Removes other users' access to the machine's directory, since the guest may leave setuid programs in the workspace.
fn close_to_others(machine: &Machine) -> Result<()> {
    std::fs::set_permissions(&machine.dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("failed to remove other users' access to {}", machine.dir.display()))
}

/// Adds the console's last lines to the error of a guest that did not start completely.
fn with_console(context: &Context, machine: &Machine, error: anyhow::Error) -> anyhow::Error {
    let lines = log_file::last_lines(&machine.console_log(), 12);
    if error.is::<crate::term::error::Interrupted>() {
        return error;
    }
    if !lines.is_empty() {
        note(&format!("the last lines of the console of {}:\n{lines}", machine.name));
    }
    let name = &machine.name;
    let exit = crate::term::error::exit_code(&error);
    let again = if exit == EXIT_TIMEOUT {
        let seconds = 2 * context.limit().as_secs();
        format!("if the host is slow, set a longer limit in seconds: agent-vm start {name} --timeout {seconds}")
    } else {
        format!("to start it again: agent-vm start {name}")
    };
    let see = format!("to see the whole console: agent-vm logs --console {name}");
    let signal = signal_in(&error);
    let ending = if signal.is_some() {
        Ending::Killed(signal)
    } else if exit == EXIT_TIMEOUT {
        Ending::Running
    } else {
        Ending::Exited
    };
    let failure = Failure::new(format!("{name} did not start completely")).exit(exit);
    match Evidence::of(machine, ending).cause() {
        Some(cause) => {
            let hint = format!("{}\n{see}", cause.remedy(name.as_str()));
            error.context(cause.text).context(failure.with_hint(hint))
        }
        None => error.context(failure.with_hint(format!("{see}\n{again}"))),
    }
}
