//! What stands around the processes of a machine besides their own sandboxes: namespaces, and an account that is not root.

mod account;
pub mod listeners;
pub mod plan;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use account::{Account, give};

use crate::error::Failure;
use crate::installation::socket_proxyd_places;
use crate::plan::Accel;
use crate::process::{Invocation, find};

/// How a machine's processes can be confined on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Account that they run as, if we are root.
    pub account: Option<Account>,
    /// Carries connections into QEMU's network namespace; without it QEMU is in the host's.
    pub proxyd: Option<PathBuf>,
}

impl Sandbox {
    /// What it comes to, for people and for `status`.
    #[must_use]
    pub fn describe(sandbox: Option<&Self>) -> &'static str {
        match sandbox {
            Some(Self { proxyd: Some(_), .. }) => "namespaces",
            Some(Self { proxyd: None, .. }) => "namespaces without a network of its own",
            None => "seccomp only",
        }
    }
}

/// What can be had here for QEMU. None: nothing but the programs' own sandboxes, and why.
///
/// # Errors
/// We are root, and cannot run a machine as anybody else.
pub fn choose(accel: Accel) -> Result<(Option<Sandbox>, Option<anyhow::Error>)> {
    let proxyd = socket_proxyd_places().into_iter().find(|place| place.is_file());
    choose_with(Sandbox { account: Account::unless_user(accel)?, proxyd })
}

/// As [`choose`], for a program that reaches the host's network.
///
/// # Errors
/// As [`choose`].
pub fn choose_on_the_network() -> Result<(Option<Sandbox>, Option<anyhow::Error>)> {
    choose_with(Sandbox { account: Account::unless_user(Accel::Tcg)?, proxyd: None })
}

fn choose_with(sandbox: Sandbox) -> Result<(Option<Sandbox>, Option<anyhow::Error>)> {
    match probe(&sandbox) {
        Ok(()) => Ok((Some(sandbox), None)),
        Err(error) if sandbox.account.is_some() => Err(error.context(
            Failure::new("as root, a machine's processes have to run as another account, and that cannot be done here")
                .hint(
                    "apt-get install bubblewrap util-linux; or run agent-vm as an ordinary user: sudo -u USER agent-vm",
                ),
        )),
        Err(error) => Ok((None, Some(error))),
    }
}

/// Makes such namespaces once.
fn probe(sandbox: &Sandbox) -> Result<()> {
    let bwrap = Invocation::new("bwrap").args(plan::namespaces(sandbox)).args(["--ro-bind", "/", "/", "--"]);
    let bwrap = bwrap.args(plan::drop_to(sandbox.account.as_ref())).arg("true").time_limit(Duration::from_secs(5));
    find("bash".as_ref())?;
    bwrap.checked().map(drop).context("no namespaces can be made around it")
}
