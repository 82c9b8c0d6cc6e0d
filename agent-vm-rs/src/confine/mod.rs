//! What stands around the processes of a machine besides their own sandboxes: namespaces, and an account that is not root.

mod account;
pub mod bwrap;
mod chown_tree;
pub mod landlock;
pub mod listeners;
pub mod mount;
pub mod seccomp;
pub mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use account::Account;
pub use chown_tree::chown_tree;

use crate::host::process::{Invocation, find};
use crate::host::programs::socket_proxyd_places;
use crate::term::error::Failure;

/// For a namespace to be made.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The device of KVM.
pub const KVM: &str = "/dev/kvm";

/// How a machine's processes can be confined on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Account that they run as, if we are root.
    pub account: Option<Account>,
    /// Carries connections into QEMU's network namespace; without it QEMU is in the host's.
    pub proxyd: Option<PathBuf>,
}

/// All that stands around a machine's processes, besides what they do themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Namespaces and account, where they can be had.
    pub sandbox: Option<Sandbox>,
    /// Our own program, where the kernel has Landlock.
    pub landlock: Option<PathBuf>,
}

impl Confinement {
    /// What it comes to, for people and for `status`.
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

    /// The account that the processes run as, if not ours.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        self.sandbox.as_ref()?.account.as_ref()
    }

    /// The same for a QEMU that uses KVM.
    #[must_use]
    pub fn with_kvm(&self) -> Self {
        let sandbox = self.sandbox.as_ref().map(|sandbox| Sandbox {
            account: sandbox.account.as_ref().map(|account| account.with_device(Path::new(KVM))),
            ..sandbox.clone()
        });
        Self { sandbox, ..self.clone() }
    }

    /// Whether ports have to be carried in.
    #[must_use]
    pub fn has_own_network(&self) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.proxyd.is_some())
    }
}

/// What can be had here for QEMU, and why there are no namespaces.
///
/// # Errors
/// We are root, and cannot run a machine as anybody else.
pub fn choose(machine: &Path) -> Result<(Confinement, Option<anyhow::Error>)> {
    let proxyd = socket_proxyd_places().into_iter().find(|place| place.is_file());
    choose_with(Sandbox { account: Account::unless_user(machine)?, proxyd })
}

/// As [`choose`], for a program that reaches the host's network.
///
/// # Errors
/// As [`choose`].
pub fn choose_on_the_network(machine: &Path) -> Result<(Confinement, Option<anyhow::Error>)> {
    choose_with(Sandbox { account: Account::unless_user(machine)?, proxyd: None })
}

/// What can be had here for a program of the host's that reads what a guest has made; it knows `--version`.
#[must_use]
pub fn choose_for_reading(program: &Path) -> Confinement {
    let sandbox = Some(Sandbox { account: None, proxyd: None });
    let namespaces = Confinement { sandbox, landlock: None };
    let as_root = rustix::process::geteuid().is_root();
    let says_its_version = Invocation::new(program).arg("--version").cwd("/");
    let probe = bwrap::reading(&says_its_version, &namespaces, &mount::installation(program), as_root);
    let can_be_had = probe.time_limit(TIMEOUT).checked().is_ok();
    Confinement { sandbox: namespaces.sandbox.filter(|_| can_be_had), landlock: landlock::ours() }
}

fn choose_with(sandbox: Sandbox) -> Result<(Confinement, Option<anyhow::Error>)> {
    let landlock = landlock::ours();
    match probe(&sandbox) {
        Ok(()) => Ok((Confinement { sandbox: Some(sandbox), landlock }, None)),
        Err(error) if sandbox.account.is_some() => Err(error.context(
            Failure::new("as root, a machine's processes have to run as another account, and that cannot be done here")
                .with_hint(
                    "apt-get install bubblewrap util-linux; or run agent-vm as an ordinary user: sudo -u USER agent-vm",
                ),
        )),
        Err(error) => Ok((Confinement { sandbox: None, landlock }, Some(error))),
    }
}

/// Makes such namespaces once.
fn probe(sandbox: &Sandbox) -> Result<()> {
    find("bash".as_ref())?;
    trial(sandbox).checked().map(drop).context("no namespaces can be made around it")
}

/// Whether an account can make the namespaces around its processes itself.
fn can_be_staged(account: &Account) -> bool {
    trial(&Sandbox { account: Some(account.clone()), proxyd: None }).checked().is_ok()
}

fn trial(sandbox: &Sandbox) -> Invocation {
    let bwrap = Invocation::new("bwrap").args(bwrap::namespaces(sandbox));
    let bwrap = bwrap.args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--"]);
    bwrap::made_by(sandbox, bwrap.args(bwrap::drop_inside(sandbox)).arg("true").cwd("/"), &[], 0).time_limit(TIMEOUT)
}
