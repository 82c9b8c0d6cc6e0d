//! The supervisor: a process that keeps the egress proxy and the tunnel to it running for as long as the machine runs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use procfs::net::TcpState;

use super::authority;
use super::proxy_args::{self, ADDON};
use crate::confine::{self, Account};
use crate::guest::Guest;
use crate::host::files::{make_private_dir, remove_file, write_unsynced};
use crate::host::interrupt::{self, Deadline};
use crate::host::process::{Child, Detached, Invocation, Pauses, ProcessId, find};
use crate::host::programs::mitmdump_places;
use crate::limits::Means;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::{RunDir, RunFacts};
use crate::mcp::endpoint::renewal::{self, Receiver};
use crate::remote::ssh::Ssh;

/// Time for the proxy to start listening: Python loads many modules.
const PROXY_START: Duration = Duration::from_secs(60);
/// Time for an ssh login to a busy guest.
const LOGIN: Duration = Duration::from_secs(60);
/// Time for the guest's sshd to start listening on the forwarded port.
const FORWARDING: Duration = Duration::from_secs(30);
/// Interval between checks of the processes.
const INTERVAL: Duration = Duration::from_millis(500);
/// Interval between checks of the MCP certificate's expiry.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(3600);
/// Shortest and longest pause before a restart. The pause doubles with each failure.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Returns the path of mitmdump.
///
/// # Errors
/// It is not installed.
pub fn proxy_program() -> Result<PathBuf> {
    let places = mitmdump_places();
    let found =
        places.iter().find_map(|place| find(place.as_os_str()).ok()).map_or_else(|| find("mitmdump".as_ref()), Ok)?;
    fs::canonicalize(&found).with_context(|| format!("failed to find {}", found.display()))
}

/// Handle of a machine's supervisor, for the command that starts the machine.
///
/// Holds the process if this command started it.
pub struct Supervisor(Option<Detached>);

/// Starts the supervisor of a machine unless it runs. The machine must be reachable by ssh.
///
/// # Errors
/// mitmproxy is not installed, or the supervisor cannot be started.
pub fn start(context: &Context, machine: &Machine) -> Result<Supervisor> {
    let run = machine.run();
    if ProcessId::read(&run.file(MachinePath::EgressPid)).is_some() {
        return Ok(Supervisor(None));
    }
    proxy_program()?;
    // A killed supervisor leaves this file behind.
    remove_file(&run.file(MachinePath::EgressUp))?;
    let own = crate::host::programs::own_path()?;
    let bundle = authority::host_bundle().map(|path| ("SSL_CERT_FILE", path));
    let invocation = bundle.into_iter().fold(Invocation::new(own), |own, (name, path)| own.env(name, path));
    let invocation = invocation
        .arg("--state-dir")
        .arg(context.state.path())
        .args(["egress", "supervise", machine.name.as_str()])
        .of_machine(&machine.dir);
    let supervisor = Means::of_run(&machine.dir)
        .around(&invocation)
        .start_detached(&run.file(MachinePath::EgressRunLog))?
        .called("the egress supervisor");
    if let Some(id) = ProcessId::of(supervisor.pid()?) {
        id.write(&run.file(MachinePath::EgressPid))?;
    }
    Ok(Supervisor(Some(supervisor)))
}

impl Supervisor {
    /// Waits until the guest can reach the proxy.
    ///
    /// # Errors
    /// The supervisor or QEMU ends, or the deadline passes.
    pub fn wait(&self, machine: &Machine, alive: &dyn Fn() -> Result<()>, deadline: Deadline) -> Result<()> {
        let run = machine.run();
        deadline.poll("egress", Duration::from_millis(20), || {
            alive()?;
            if let Some(process) = &self.0 {
                process.check_alive(&run.file(MachinePath::EgressRunLog))?;
            }
            Ok(is_up(&run).then_some(()))
        })
    }
}

/// Restarts the proxy and the tunnel whenever one ends, until QEMU ends or a signal arrives.
///
/// # Errors
/// The machine does not run, or its directories cannot be prepared.
pub fn supervise(context: &Context, machine: &Machine) -> Result<()> {
    let run = machine.run();
    let (guest, facts) = crate::guest::running::running(machine)?;
    let qemu = run.qemu().context("the machine has ended")?;
    prepare(machine)?;
    let receiver =
        Receiver { path: guest.manifest.service.renewal_path.clone(), key: guest.manifest.credentials.mcp_key.clone() };
    keep_certified(machine, receiver, &facts);
    let mut pauses = Pauses::between(PAUSES.0, PAUSES.1);
    while qemu.alive() {
        let began = Instant::now();
        let ended = keep_up(context, machine, &guest, &facts, &qemu);
        remove_file(&run.file(MachinePath::EgressUp))?;
        interrupt::check()?;
        if let Err(error) = ended {
            tracing::warn!("{error:#}");
        }
        pauses.sleep(began, &qemu, INTERVAL)?;
    }
    Ok(())
}

/// Starts a thread that renews the run's MCP certificate when it is due.
fn keep_certified(machine: &Machine, receiver: Receiver, facts: &RunFacts) {
    let (machine, facts) = (machine.clone(), facts.clone());
    std::thread::spawn(move || {
        loop {
            match renewal::renew_if_due(&machine, &receiver, &facts) {
                Ok(true) => tracing::warn!("renewed the certificate of the MCP endpoint"),
                Ok(false) => {}
                Err(error) => tracing::warn!("{error:#}"),
            }
            std::thread::sleep(CERTIFICATE_INTERVAL);
        }
    });
}

/// Creates the proxy's and the tunnel's files and directories, owned by the machine's account if it has one.
fn prepare(machine: &Machine) -> Result<()> {
    let addon = machine.run().file(MachinePath::ProxyAddon);
    make_private_dir(&addon)?;
    for (name, text) in ADDON {
        write_unsynced(&addon.join(name), text, 0o600)?;
    }
    let log = MachinePath::EgressLogDir.of(&machine.dir);
    make_private_dir(&log)?;
    // The counts start at zero with each run.
    remove_file(&MachinePath::EgressDenied.of(&machine.dir))?;
    remove_file(&MachinePath::EgressAllowed.of(&machine.dir))?;
    let authority = authority::copy_for_proxy(&machine.dir, &machine.run())?;
    make_private_dir(&machine.run().file(MachinePath::Tunnel))?;
    let Some(account) = Account::unless_user(&machine.dir)? else { return Ok(()) };
    [addon, log, authority]
        .iter()
        .chain(&proxy_args::mounts_of_ssh(&machine.dir))
        .try_for_each(|place| confine::chown_tree(place, &account))
}

/// Starts the proxy and the tunnel and returns once one of them, or QEMU, has ended. All started processes are ended.
fn keep_up(context: &Context, machine: &Machine, guest: &Guest, facts: &RunFacts, qemu: &ProcessId) -> Result<()> {
    let run = machine.run();
    let log = run.file(MachinePath::EgressRunLog);
    let port = free_port()?;
    let bundle = authority::host_bundle();
    let (confinement, reason) = confine::choose_on_the_network(&machine.dir)?;
    if let Some(why) = reason {
        tracing::warn!("the egress proxy runs without its own namespaces: {why:#}");
    }
    let inputs = proxy_args::Proxy {
        machine: &machine.dir,
        program: &proxy_program()?,
        port,
        bundle: bundle.as_deref(),
        confinement: &confinement,
    };
    let proxy = Child::start(&proxy_args::proxy(&inputs), "the egress proxy")?;
    proxy.remember(&run.file(MachinePath::ProxyPid))?;
    Deadline::after(PROXY_START).poll("the egress proxy to listen", Duration::from_millis(50), || {
        proxy.check(&log)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok())
    })?;
    ensure_ours(port, confinement.account())?;
    let ssh = Ssh::to(machine, &guest.manifest, facts, context.verbosity).with_socket(MachinePath::TunnelSocket);
    remove_file(&MachinePath::TunnelSocket.of(&machine.dir))?;
    let by_account = |ssh: &Invocation| proxy_args::tunnel(ssh, &machine.dir, confinement.account());
    let tunnel = Child::start(&by_account(&ssh.master(LOGIN)), "the egress tunnel")?;
    tunnel.remember(&run.file(MachinePath::TunnelPid))?;
    Deadline::after(LOGIN).poll("an ssh login", Duration::from_millis(20), || {
        tunnel.check(&log)?;
        Ok(MachinePath::TunnelSocket.of(&machine.dir).exists().then_some(()))
    })?;
    by_account(&ssh.forwarding_back(guest.manifest.egress.port, port))
        .time_limit(FORWARDING)
        .checked()
        .context("egress port forwarding failed")?;
    write_unsynced(&run.file(MachinePath::EgressUp), "", 0o600)?;
    loop {
        interrupt::check()?;
        if !qemu.alive() {
            return Ok(());
        }
        proxy.check(&log)?;
        tunnel.check(&log)?;
        // End the tunnel at once when the proxy ends: another user could then bind its port.
        proxy.wait(INTERVAL)?;
    }
}

/// Checks that the proxy listens on its port, and not another user who took it first.
fn ensure_ours(port: u16, account: Option<&Account>) -> Result<()> {
    let ours = account.map_or_else(|| rustix::process::geteuid().as_raw(), |account| account.uid);
    let owner = listeners_owner(port)?;
    ensure!(owner == Some(ours), "the egress proxy's port {port} was taken by another user");
    Ok(())
}

/// Returns the user id of the listener on a port of 127.0.0.1, from `/proc`; None if the port has no listener.
fn listeners_owner(port: u16) -> Result<Option<u32>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let sockets = procfs::net::tcp().context("failed to read who listens on the egress proxy's port")?;
    let listener = sockets.into_iter().find(|one| one.state == TcpState::Listen && one.local_address == address);
    Ok(listener.map(|one| one.uid))
}

/// Returns a free port. If another process takes it first, the proxy fails and is restarted.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
    Ok(listener.local_addr().context("failed to find a free port")?.port())
}

/// Checks whether a run's supervisor is alive and the guest can reach the proxy.
#[must_use]
pub fn is_up(run: &RunDir) -> bool {
    ProcessId::read(&run.file(MachinePath::EgressPid)).is_some()
        && fs::exists(run.file(MachinePath::EgressUp)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_owner_returns_the_user_id() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listeners_owner(port).unwrap(), Some(rustix::process::geteuid().as_raw()));
        ensure_ours(port, None).unwrap();
        let other = Account { uid: u32::MAX - 1, gid: 0, groups: Vec::new(), stage: None };
        assert!(ensure_ours(port, Some(&other)).is_err());
        // A connected socket is not a listener.
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(listeners_owner(client.local_addr().unwrap().port()).unwrap(), None);
        // A listener on all addresses is not one on 127.0.0.1.
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert_eq!(listeners_owner(everywhere.local_addr().unwrap().port()).unwrap(), None);
    }
}
