//! Landlock: within namespaces a second wall, and where none can be made the one around a program.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, Scope, path_beneath_rules,
};
use anyhow::{Context as _, Result};
use clap::Args;

use super::mount::{Mount, SYSTEM};
use crate::host::process::Invocation;

/// What is asked of the kernel: it gives as much of it as it knows (landlock(7)). Linux 6.12 knows all.
const LANDLOCK: ABI = ABI::V6;
/// Devices without a state that one program could leave to another.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// What of the network a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network<'a> {
    /// All.
    Open,
    /// It may listen on these TCP ports and connect to none.
    Listen(&'a [u16]),
}

/// Our own program, which makes the wall before it becomes another, if this kernel has Landlock.
#[must_use]
pub fn ours() -> Option<PathBuf> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).ok()?.create().ok()?;
    std::env::current_exe().ok()
}

/// A program that has nothing but `mounts`, the system's programs and `network`. Pure; `ours` is as [`ours`] gives it.
#[must_use]
pub fn around(program: &Invocation, ours: &Path, mounts: &[Mount], network: Network<'_>) -> Invocation {
    let mut wall = Invocation::new(ours).arg("landlocked");
    for mount in mounts {
        let (option, path) = match mount {
            Mount::Read(path) | Mount::ReadIfThere(path) => ("--read", path),
            Mount::Write(path) => ("--write", path),
            Mount::Device(path) => ("--device", path),
        };
        wall = wall.arg(option).arg(path);
    }
    if let Network::Listen(ports) = network {
        wall = wall.arg("--no-network");
        for port in ports {
            wall = wall.arg("--listen").arg(port.to_string());
        }
    }
    program.within(wall.arg("--"))
}

/// What carries ports from the third descriptor on: its words, to which the target is added. It has nothing but the system's
/// programs, that socket and connections to `ports`.
#[must_use]
pub fn forwarder(proxyd: &Path, ours: &Path, ports: &[u16]) -> Invocation {
    let mut wall = Invocation::new(ours).args(["landlocked", "--sockets", "1", "--no-network"]);
    for mount in super::mount::installation(proxyd) {
        if let Mount::Read(path) | Mount::ReadIfThere(path) = mount {
            wall = wall.arg("--read").arg(path);
        }
    }
    for port in ports {
        wall = wall.arg("--connect").arg(port.to_string());
    }
    wall.arg("--").arg(proxyd)
}

/// A wall and the program behind it.
#[derive(Args, Clone, Debug)]
pub struct Landlocked {
    /// File or directory that may be read, and programs in it run
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// File or directory that may be written, with no program run from it
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,
    /// Device that may be used
    #[arg(long, value_name = "PATH")]
    device: Vec<PathBuf>,
    /// No TCP but what `--listen` says
    #[arg(long)]
    no_network: bool,
    /// TCP port to listen on
    #[arg(long, value_name = "PORT", requires = "no_network")]
    listen: Vec<u16>,
    /// TCP port to connect to
    #[arg(long, value_name = "PORT", requires = "no_network")]
    connect: Vec<u16>,
    /// Sockets that the program gets, as the descriptors from the third on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    sockets: u8,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl Landlocked {
    /// Sockets that the program gets.
    #[must_use]
    pub fn sockets(&self) -> u8 {
        self.sockets
    }

    /// Gives up all else, and becomes the program. What is not there cannot be had, and is no error.
    ///
    /// # Errors
    /// The kernel refuses, or there is no such program.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        self.give_up_the_rest().context("failed to put Landlock around it")?;
        super::seccomp::refuse_what_is_not_needed()?;
        let (program, args) = self.program.split_first().context("there is no program to become")?;
        Err(Command::new(program).args(args).exec())
            .with_context(|| format!("failed to become {}", program.to_string_lossy()))
    }

    fn give_up_the_rest(&self) -> Result<()> {
        let read = AccessFs::from_read(LANDLOCK);
        let write = AccessFs::from_all(LANDLOCK) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
        let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(LANDLOCK))?;
        ruleset = ruleset.scope(Scope::from_all(LANDLOCK))?;
        if self.no_network {
            ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK))?;
        }
        let mut ruleset = ruleset
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.write, write))?
            .add_rules(path_beneath_rules(&self.device, device))?;
        for port in &self.listen {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        for port in &self.connect {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        ruleset.restrict_self()?;
        Ok(())
    }
}
