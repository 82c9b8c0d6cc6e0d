//! Starts a machine: builds its guest, makes its disk and keys, starts virtiofsd and QEMU, and waits for ssh, the
//! service and MCP.

mod console;
mod notices;
mod processes;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::processes::{remember, remember_forwarders, remember_inner, start_virtiofsd};
use crate::confine::listeners::Listener;
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement};
use crate::egress;
use crate::guest::installation::Toolkit;
use crate::guest::manifest::Share;
use crate::guest::{Guest, Recipe};
use crate::host::files::make_private_dir;
use crate::host::interrupt::Deadline;
use crate::host::process::{Detached, ProcessId};
use crate::host::user_dirs::cache_dir;
use crate::host::{log_file, ports, system};
use crate::machine::accel::Accel;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunFacts;
use crate::machine::settings::Settings;
use crate::machine::{Machine, helpers, sweep};
use crate::mcp::endpoint;
use crate::term::error::{EXIT_TIMEOUT, Failure};
use crate::term::progress::note;
use crate::vm::phases::Phases;
use crate::vm::qemu_args::{self, Forwards, Inputs, Virtiofsd};
use crate::vm::{accel, credentials, disk, readiness, shutdown, virtiofsd};

/// Time for the process that made QEMU's namespaces to end after QEMU.
const STATUS: Duration = Duration::from_secs(2);

/// Starts a stopped machine. The caller holds its lock. If it fails, nothing keeps running, unless only the service
/// inside the guest failed: then the machine stays up, so that the user can examine it.
///
/// # Errors
/// A step fails. If the guest did not come up, the last lines of its console are printed too.
pub fn launch(context: &Context, machine: &Machine) -> Result<()> {
    machine.check()?;
    shutdown::clean_up(machine)?;
    close_to_others(machine)?;
    sweep::scratch(&machine.dir)?;
    let mut settings = machine.settings()?;
    if let Some(nix_args) = &context.nix_args {
        settings.nix_args.clone_from(nix_args);
    }
    if let Some(warning) = settings.endpoint_warning() {
        note(&warning);
    }
    // Report missing confinement before building a guest, which takes long.
    let (confinement, obstacle) = confine::choose(&machine.dir)?;
    notices::confinement(&confinement, obstacle);
    let cache = cache_dir()?;
    make_private_dir(&cache)?;
    let daemon = virtiofsd::find();
    let share = if daemon.is_ok() { Share::Virtiofs } else { Share::NineP };
    match &daemon {
        Ok(daemon) => notices::open_files(machine, daemon),
        Err(why) => note(&format!("notice: {why:#}: the workspace is shared over 9p, which is slower")),
    }
    let guest = guest(context, machine, &settings, share, &cache)?;
    guest.manifest.qemu.start()?;
    let program = guest.manifest.qemu.program()?;
    let qemu = confine::mount::installation(&program);
    let choice = accel::choose(&guest, &confinement, &cache)?;
    if let Some(notice) = choice.notice() {
        note(&notice);
    }
    let accel = choice.accel();
    if accel == Accel::Tcg {
        let limit = context.start_limit(accel.as_str()).as_secs();
        note(&format!("  an emulated machine has {limit} s to start; to change that: --timeout SECONDS"));
    }
    let confinement = if accel == Accel::Kvm { confinement.with_kvm() } else { confinement };
    let mut phases = Phases::new(&format!("{}/{}", settings.guest, accel.as_str()), &cache);
    let host = Host { accel, daemon: daemon.ok(), confinement, program, qemu };
    let begun = begin(context, machine, &settings, &guest, &host, &mut phases);
    let (qemu, facts) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            shutdown::clean_up(machine)?;
            return Err(error);
        }
    };
    let console = machine.run().file(MachinePath::RunConsole);
    let again = format!("agent-vm start {}", machine.name);
    let alive = || {
        // A panic also ends QEMU: report the panic and not the end.
        console::check(&console, &again, machine.name.as_str())?;
        qemu.check_alive(&console)?;
        if machine.run().qemu().is_none() {
            // The process that made the namespaces ends a moment later, with QEMU's status.
            qemu.wait(STATUS)?;
            qemu.check_alive(&console)?;
        }
        helpers::check(machine, &facts)
    };
    match readiness::wait(context, machine, &guest, &facts, &alive, &mut phases) {
        Ok(()) => {
            phases.save();
            machine.run().note_started()
        }
        Err(error) if error.is::<readiness::ServiceDown>() => machine.run().note_started().and(Err(error)),
        Err(error) => {
            shutdown::clean_up(machine)?;
            Err(with_console(machine, error))
        }
    }
}

/// Waits until a running machine answers. Another command may still be starting it, or may have been killed meanwhile.
///
/// # Errors
/// It does not answer in time. It keeps running.
pub fn join(context: &Context, machine: &Machine, qemu: &ProcessId, facts: &RunFacts) -> Result<()> {
    let guest = Guest::of(machine)?;
    // Fail at once on what only a restart repairs; replace other helpers that hang.
    helpers::check(machine, facts)?;
    helpers::end_suspended(&machine.run(), facts);
    let mut phases = Phases::new("running", &cache_dir()?);
    let name = &machine.name;
    let (console, again) = (machine.run().file(MachinePath::RunConsole), format!("agent-vm restart {name}"));
    let alive = || {
        if !qemu.alive() {
            return Err(Failure::new(format!("{name} ended")).with_hint(format!("agent-vm start {name}")).into());
        }
        console::check(&console, &again, name.as_str())?;
        helpers::check(machine, facts)
    };
    readiness::wait(context, machine, &guest, facts, &alive, &mut phases)?;
    machine.run().note_started()
}

fn guest(context: &Context, machine: &Machine, settings: &Settings, share: Share, cache: &Path) -> Result<Guest> {
    let recipe = Recipe::new(settings, &Toolkit::locate()?, share)?;
    if let Some(guest) = Guest::current(machine, &recipe) {
        return Ok(guest);
    }
    let phases = Phases::new(&settings.guest.to_string(), cache);
    let guest = phases.run_unmeasured("guest", || Guest::build(machine, &recipe, cache, context.verbosity))?;
    Ok(guest)
}

/// What this host provides for a machine.
struct Host {
    accel: Accel,
    daemon: Option<Virtiofsd>,
    confinement: Confinement,
    program: PathBuf,
    qemu: Vec<Mount>,
}

/// Starts the processes. Returns QEMU's process id and the facts of the run.
fn begin(
    context: &Context,
    machine: &Machine,
    settings: &Settings,
    guest: &Guest,
    host: &Host,
    phases: &mut Phases,
) -> Result<(Detached, RunFacts)> {
    let Host { accel, daemon, confinement, program, qemu } = host;
    let limit = context.start_limit(accel.as_str());
    let deadline = Deadline::after(limit);
    phases.run("disk and keys", || {
        disk::ensure(machine, &guest.manifest.disk.label, settings.disk)?;
        make_private_dir(machine.run().path())?;
        guest.keep_for(&machine.run())?;
        make_private_dir(&machine.run().file(MachinePath::Qemu))?;
        egress::rules::write(&machine.dir, machine.name.as_str(), &settings.egress, &guest.manifest.egress.groups)?;
        let run = credentials::Run {
            hostname: &machine.name.hostname(),
            log_level: context.verbosity.log_level(),
            endpoint: endpoint::hand_over(machine, settings, system::forward_address(&settings.host)?)?,
        };
        credentials::hand_over(&machine.dir, run, &guest.manifest)?;
        confinement.account().map_or(Ok(()), |account| {
            let places =
                [machine.run().file(MachinePath::Qemu), MachinePath::Disk.of(&machine.dir), machine.workspace()];
            places.iter().try_for_each(|place| confine::chown_tree(place, account))
        })
    })?;
    let forwards = forwards(settings)?;
    let listeners = if confinement.has_own_network() { bind(forwards)? } else { Vec::new() };
    let ports: Vec<_> = listeners.iter().map(|one| one.port).collect();
    let inputs = Inputs {
        machine: &machine.dir,
        package: &guest.package,
        manifest: &guest.manifest,
        settings,
        program,
        qemu,
        start: guest.manifest.qemu.start()?,
        accel: *accel,
        forwards,
        virtiofsd: daemon.as_ref(),
        verbosity: context.verbosity,
        confinement,
        ports: &ports,
    };
    let run = machine.run();
    if let Some(daemon) = qemu_args::virtiofsd(&inputs) {
        phases.run("workspace", || start_virtiofsd(&daemon, &run, deadline))?;
    }
    let sockets: Vec<_> = listeners.iter().map(Listener::socket).collect();
    let qemu = qemu_args::runner(&inputs).start_detached_with(&run.file(MachinePath::RunConsole), &sockets)?;
    drop(listeners);
    if let Some(keeper) = qemu.keeper() {
        keeper.write(&run.file(MachinePath::RunConsoleKeeperPid))?;
    }
    if confinement.sandbox.is_some() {
        remember_inner(&qemu, &run.file(MachinePath::RunConsole), &run.file(MachinePath::QemuPid), deadline)?;
    } else {
        remember(&qemu, &run, MachinePath::QemuPid)?;
    }
    if let Some(inner) = run.qemu().filter(|_| confinement.has_own_network()) {
        let ports = [(forwards.ssh, MachinePath::ForwardSshPid), (forwards.mcp, MachinePath::ForwardMcpPid)];
        remember_forwarders(&inner, &run, &ports, deadline)?;
    }
    let facts = RunFacts {
        started: jiff::Timestamp::now(),
        host: forwards.address,
        port: forwards.mcp,
        ssh_port: forwards.ssh,
        tls: settings.tls,
        auth: settings.auth,
        accel: accel.as_str().to_owned(),
        share: guest.manifest.workspace.share.as_str().to_owned(),
        confined: confinement.describe(),
        start_limit: limit.as_secs(),
    };
    run.write_facts(&facts)?;
    Ok((qemu, facts))
}

/// Returns the ports of the settings. A port that the user did not choose is replaced if it is in use.
fn forwards(settings: &Settings) -> Result<Forwards> {
    let address = system::forward_address(&settings.host)?;
    let settle = |port: u16, asked: bool, flag: &str, other: u16| -> Result<u16> {
        if asked {
            return ports::require_free(address, port, flag).map(|()| port);
        }
        let free = ports::next_free(address, port, &[other].into())?;
        if free != port {
            note(&format!("notice: port {port} is in use; this run uses {free}"));
        }
        Ok(free)
    };
    let mcp = settle(settings.port, settings.port_asked, "--port", settings.ssh_port)?;
    let ssh = settle(settings.ssh_port, settings.ssh_port_asked, "--ssh-port", mcp)?;
    Ok(Forwards { address, mcp, ssh })
}

fn bind(forwards: Forwards) -> Result<Vec<Listener>> {
    [forwards.mcp, forwards.ssh].into_iter().map(|port| Listener::bind(forwards.address, port)).collect()
}

/// Closes the machine's directory to other users of this host, since the guest may leave setuid programs in the
/// workspace.
fn close_to_others(machine: &Machine) -> Result<()> {
    std::fs::set_permissions(&machine.dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("failed to close {} to other users", machine.dir.display()))
}

/// Adds the console's last lines to the error of a guest that did not come up.
fn with_console(machine: &Machine, error: anyhow::Error) -> anyhow::Error {
    let lines = log_file::last_lines(&machine.console_log(), 12);
    if error.is::<crate::term::error::Interrupted>() {
        return error;
    }
    if !lines.is_empty() {
        note(&format!("the last lines of the console of {}:\n{lines}", machine.name));
    }
    let name = &machine.name;
    let exit = crate::term::error::exit_code(&error);
    let slow = if exit == EXIT_TIMEOUT { ", with --timeout SECONDS if the host is slow" } else { "" };
    let hint = format!("agent-vm logs --console {name} shows the whole console; then agent-vm start {name}{slow}");
    let failure = Failure::new(format!("{name} did not come up")).exit(exit).with_hint(hint);
    error.context(failure)
}
