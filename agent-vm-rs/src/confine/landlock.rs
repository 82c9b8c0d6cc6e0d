//! Landlock: a second layer inside namespaces, and the only one on hosts without them.

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

/// Requested version of Landlock: the kernel applies what it supports of it (landlock(7)). Linux 6.12 supports all.
const LANDLOCK: ABI = ABI::V6;
/// Devices that keep no state between programs.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Network access of a sandboxed program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network<'a> {
    /// Everything the host has.
    Open,
    /// Only listening on these TCP ports.
    Listen(&'a [u16]),
}

/// Returns the path of agent-vm, which applies Landlock before it executes a program; None if the kernel has no Landlock.
#[must_use]
pub fn ours() -> Option<PathBuf> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).ok()?.create().ok()?;
    crate::host::programs::own_path().ok()
}

/// Returns the newest version of Landlock that the kernel and this program both know; None without Landlock.
#[must_use]
pub fn version() -> Option<u32> {
    let knows = |abi: ABI| -> bool {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let Ok(mut ruleset) = ruleset.handle_access(AccessFs::from_all(abi)) else { return false };
        let net = AccessNet::from_all(abi);
        if !net.is_empty() {
            let Ok(with) = ruleset.handle_access(net) else { return false };
            ruleset = with;
        }
        let scope = Scope::from_all(abi);
        if !scope.is_empty() {
            let Ok(with) = ruleset.scope(scope) else { return false };
            ruleset = with;
        }
        ruleset.create().is_ok()
    };
    let all = [(6, ABI::V6), (5, ABI::V5), (4, ABI::V4), (3, ABI::V3), (2, ABI::V2), (1, ABI::V1)];
    all.into_iter().find(|(_, abi)| knows(*abi)).map(|(version, _)| version)
}

/// Returns a program that can access only `mounts`, the system's programs and `network`. `ours` is the path of agent-vm.
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

/// Returns the command of a port's forwarder, to which the target is added. It inherits the port's socket as descriptor 3 and
/// can access only the system's programs, `files` and TCP connections to `ports`.
#[must_use]
pub fn forwarder(program: &Invocation, files: &[Mount], ours: &Path, ports: &[u16]) -> Invocation {
    let mut wall = Invocation::new(ours).args(["landlocked", "--sockets", "1", "--no-network"]);
    for mount in files {
        if let Mount::Read(path) | Mount::ReadIfThere(path) = mount {
            wall = wall.arg("--read").arg(path);
        }
    }
    for port in ports {
        wall = wall.arg("--connect").arg(port.to_string());
    }
    program.within(wall.arg("--"))
}

/// Options of the command that applies Landlock and executes a program.
#[derive(Args, Clone, Debug)]
pub struct Landlocked {
    /// File or directory that may be read and executed
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// File or directory that may be read and written, but not executed
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,
    /// Device that may be used
    #[arg(long, value_name = "PATH")]
    device: Vec<PathBuf>,
    /// No TCP except the given ports
    #[arg(long)]
    no_network: bool,
    /// TCP port to listen on
    #[arg(long, value_name = "PORT", requires = "no_network")]
    listen: Vec<u16>,
    /// TCP port to connect to
    #[arg(long, value_name = "PORT", requires = "no_network")]
    connect: Vec<u16>,
    /// Number of sockets that the program inherits, as descriptors 3 and up
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    sockets: u8,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl Landlocked {
    /// Returns the number of sockets that the program inherits.
    #[must_use]
    pub fn sockets(&self) -> u8 {
        self.sockets
    }

    /// Applies Landlock and executes the program. A path that does not exist is skipped.
    ///
    /// # Errors
    /// The kernel rejects a rule, or the program does not exist.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        self.restrict().context("failed to apply Landlock")?;
        super::seccomp::apply()?;
        let (program, args) = self.program.split_first().context("no program to execute was given")?;
        Err(Command::new(program).args(args).exec())
            .with_context(|| format!("failed to execute {}", program.to_string_lossy()))
    }

    fn restrict(&self) -> Result<()> {
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
