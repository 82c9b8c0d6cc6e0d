//! Sandboxes around a machine's processes: namespaces, Landlock, and an unprivileged account if root starts the machine.

mod account;
mod binds;
pub mod bwrap;
mod chown_tree;
pub mod forward;
pub mod landlock;
pub mod listeners;
pub mod mount;
pub mod seccomp;
pub mod setpriv;
pub mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use account::Account;
pub use chown_tree::{chown_tree, take_tree};

use crate::host::process::{Invocation, find};
use crate::host::programs::socket_proxyd_places;
use crate::term::error::Failure;

/// Time for a trial sandbox to start.
const TIMEOUT: Duration = Duration::from_secs(5);
/// KVM's device.
pub const KVM: &str = "/dev/kvm";

/// How a machine's processes can be isolated on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The account they run as, if we are root.
    pub account: Option<Account>,
    /// Path of systemd-socket-proxyd, which forwards ports into QEMU's network namespace. Without it, QEMU shares the host's.
    pub proxyd: Option<PathBuf>,
}

/// All isolation of a machine's processes that this program adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Namespaces and account, if this host allows them.
    pub sandbox: Option<Sandbox>,
    /// Path of agent-vm, if the kernel has Landlock.
    pub landlock: Option<PathBuf>,
}

impl Confinement {
    /// Returns a human-readable summary, also for `status`.
    #[must_use]
    pub fn describe(&self) -> String {
        let namespaces = match &self.sandbox {
            Some(Sandbox { proxyd: Some(_), .. }) => Some("namespaces"),
            Some(Sandbox { proxyd: None, .. }) => Some("namespaces without a network of its own"),
            None => None,
        };
        let shared = self.account().filter(|account| account.stage.is_none()).map(|_| "an account for all machines");
        let all: Vec<_> =
            namespaces.into_iter().chain(shared).chain(self.landlock.as_ref().map(|_| "landlock")).collect();
        if all.is_empty() { "seccomp only".to_owned() } else { all.join(", ") }
    }

    /// Returns the account that the processes run as, if not ours.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        self.sandbox.as_ref()?.account.as_ref()
    }

    /// Returns the same confinement with access to KVM's device.
    #[must_use]
    pub fn with_kvm(&self) -> Self {
        let sandbox = self.sandbox.as_ref().map(|sandbox| Sandbox {
            account: sandbox.account.as_ref().map(|account| account.with_device(Path::new(KVM))),
            ..sandbox.clone()
        });
        Self { sandbox, ..self.clone() }
    }

    /// Checks whether each program has a user namespace of its own.
    #[must_use]
    pub fn has_own_users(&self) -> bool {
        self.sandbox.is_some() && self.account().is_none_or(|account| account.stage.is_some())
    }

    /// Checks whether ports must be forwarded into a network namespace.
    #[must_use]
    pub fn has_own_network(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.proxyd.is_some())
    }
}

/// Returns the best confinement for QEMU on this host, and the reason if namespaces are missing.
///
/// # Errors
/// We are root and cannot run a machine's processes as another account.
pub fn choose(machine: &Path) -> Result<(Confinement, Option<anyhow::Error>)> {
    let proxyd = socket_proxyd_places().into_iter().find(|place| place.is_file());
    choose_with(Sandbox { account: Account::unless_user(machine)?, proxyd })
}

/// Returns the best confinement for a program that uses the host's network.
///
/// # Errors
/// See [`choose`].
pub fn choose_on_the_network(machine: &Path) -> Result<(Confinement, Option<anyhow::Error>)> {
    choose_with(Sandbox { account: Account::unless_user(machine)?, proxyd: None })
}

/// Returns the best confinement for a host program that reads files which a guest wrote. The program must accept `--version`.
#[must_use]
pub fn choose_for_reading(program: &Path) -> Confinement {
    let sandbox = Some(Sandbox { account: None, proxyd: None });
    let namespaces = Confinement { sandbox, landlock: None };
    let as_root = rustix::process::geteuid().is_root();
    let version = Invocation::new(program).arg("--version").cwd("/");
    let probe = bwrap::reading(&version, &namespaces, &mount::installation(program), as_root);
    let works = probe.time_limit(TIMEOUT).checked().is_ok();
    Confinement { sandbox: namespaces.sandbox.filter(|_| works), landlock: landlock::ours() }
}

fn choose_with(sandbox: Sandbox) -> Result<(Confinement, Option<anyhow::Error>)> {
    let landlock = landlock::ours();
    match probe(&sandbox) {
        Ok(()) => Ok((Confinement { sandbox: Some(sandbox), landlock }, None)),
        Err(error) if sandbox.account.is_some() => Err(error.context(
            Failure::new("cannot run a machine's processes as an unprivileged account, as is required for root")
                .with_hint(
                    "install them: apt-get install bubblewrap util-linux; or run agent-vm as an ordinary user: sudo -u USER agent-vm",
                ),
        )),
        Err(error) => Ok((Confinement { sandbox: None, landlock }, Some(error))),
    }
}

/// Starts a trial sandbox.
fn probe(sandbox: &Sandbox) -> Result<()> {
    find("bash".as_ref())?;
    trial(sandbox).checked().map(drop).context("failed to create namespaces")
}

/// Checks whether an account can create the namespaces around its processes itself.
fn can_be_staged(account: &Account) -> bool {
    trial(&Sandbox { account: Some(account.clone()), proxyd: None }).checked().is_ok()
}

fn trial(sandbox: &Sandbox) -> Invocation {
    let bwrap = Invocation::new("bwrap").args(bwrap::namespaces(sandbox));
    let bwrap = bwrap.args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--"]);
    bwrap::made_by(sandbox, bwrap.args(setpriv::drop_inside(sandbox)).arg("true").cwd("/"), &[], 0).time_limit(TIMEOUT)
}
