//! Builds the command lines of the runner and virtiofsd from settings and manifest. Pure, so that tests compare
//! values.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::confine::forward::Rate;
use crate::confine::landlock::Network;
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement};
use crate::guest::manifest::{Manifest, Share, Start};
use crate::host::process::Invocation;
use crate::limits;
use crate::machine::accel::Accel;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;
use crate::term::verbosity::Verbosity;
use crate::vm::throttle;

/// Address and ports of the machine on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwards {
    /// Address that both ports are bound to.
    pub address: Ipv4Addr,
    /// Host port of MCP.
    pub mcp: u16,
    /// Host port of ssh.
    pub ssh: u16,
}

/// virtiofsd as found on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtiofsd {
    /// Path of the program.
    pub program: PathBuf,
    /// Limit of open files; virtiofsd keeps one open for each file that the guest has seen.
    pub open_files: u64,
}

/// Everything that the command lines depend on.
pub struct Inputs<'a> {
    /// The machine's directory.
    pub machine: &'a Path,
    /// The guest package.
    pub package: &'a Path,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// The machine's settings.
    pub settings: &'a Settings,
    /// Path of QEMU.
    pub program: &'a Path,
    /// Mounts with QEMU's installation, if it is outside the system's directories.
    pub qemu: &'a [Mount],
    /// Further options and files that QEMU's start needs.
    pub start: &'a Start,
    /// Accelerator to use.
    pub accel: Accel,
    /// Address and ports of the machine.
    pub forwards: Forwards,
    /// virtiofsd, if it serves the workspace.
    pub virtiofsd: Option<&'a Virtiofsd>,
    /// Log level.
    pub verbosity: Verbosity,
    /// Confinement of the processes.
    pub confinement: &'a Confinement,
    /// How the forwarders limit the rate, if they do.
    pub rate: Option<Rate<'a>>,
    /// Limit of the processes and threads of QEMU and of virtiofsd each, if each has a user namespace of its own.
    pub pids: Option<u32>,
    /// Guest ports that are forwarded into QEMU's namespace, in the order of their sockets.
    pub ports: &'a [u16],
}

/// Returns the runner's command: QEMU with the facts of this run. Every path in its options is relative to
/// [`MachinePath::Qemu`], so that no character in the user's own paths can be misread.
#[must_use]
pub fn runner(inputs: &Inputs<'_>) -> Invocation {
    let Inputs { machine, package, .. } = *inputs;
    let run = MachinePath::Qemu.of(machine);
    let disk = MachinePath::Disk.of(machine);
    let runner = Invocation::new(package.join(&inputs.manifest.runner))
        .env("NIX_DISK_IMAGE", &disk)
        .env("USE_TMPDIR", "1")
        .env("TMPDIR", &run)
        .env("AGENT_VM_QEMU", inputs.program)
        .env("QEMU_NET_OPTS", net_options(inputs))
        .args(qemu_options(inputs))
        .cwd(&run)
        .of_machine(machine);
    let mut mounts = vec![Mount::Read(package.to_owned()), Mount::Write(disk), Mount::Write(run)];
    if inputs.manifest.workspace.share == Share::NineP {
        mounts.push(Mount::Write(MachinePath::Workspace.of(machine)));
    }
    if inputs.accel == Accel::Kvm {
        mounts.push(Mount::Device(confine::KVM.into()));
    }
    let Forwards { mcp, ssh, .. } = inputs.forwards;
    mounts.extend_from_slice(inputs.qemu);
    let runner = limits::limit_processes(&runner, inputs.pids);
    confine::bwrap::around(
        &runner,
        inputs.confinement,
        &mounts,
        Network::Listen(&[ssh, mcp]),
        inputs.ports,
        inputs.rate,
    )
}

fn qemu_options(inputs: &Inputs<'_>) -> Vec<String> {
    let Inputs { manifest, settings, .. } = inputs;
    let (memory, cores) = (settings.memory, settings.cores);
    let cpu = match inputs.accel {
        Accel::Kvm => &manifest.qemu.cpu.kvm,
        Accel::Tcg => &manifest.qemu.cpu.tcg,
    };
    let mut options = vec![
        "-m".to_owned(),
        memory.to_string(),
        "-smp".to_owned(),
        cores.to_string(),
        "-cpu".to_owned(),
        cpu.clone(),
        "-machine".to_owned(),
        format!("accel={}", inputs.accel.as_str()),
        // virtiofsd accesses the guest's memory directly, so the memory must be shared.
        "-object".to_owned(),
        format!("memory-backend-memfd,id=agent-vm-ram,size={memory}M,share=on"),
        "-machine".to_owned(),
        "memory-backend=agent-vm-ram,dump-guest-core=off".to_owned(),
        "-qmp".to_owned(),
        format!("unix:{},server=on,wait=off", MachinePath::QmpSocket.file_name()),
        "-pidfile".to_owned(),
        MachinePath::QemuRuns.file_name().to_owned(),
    ];
    let prefix = &inputs.start.credential_prefix;
    for name in manifest.credentials.all() {
        options.extend([
            "-fw_cfg".to_owned(),
            format!("name={prefix}{name},file={}/{name}", MachinePath::Credentials.file_name()),
        ]);
    }
    options.extend(throttle::options(&settings.limits));
    let tag = &manifest.workspace.tag;
    match manifest.workspace.share {
        Share::Virtiofs => options.extend([
            "-chardev".to_owned(),
            format!("socket,id=workspace,path={}", MachinePath::VirtiofsdSocket.file_name()),
            "-device".to_owned(),
            format!("vhost-user-fs-pci,chardev=workspace,tag={tag}"),
        ]),
        Share::NineP => options.extend([
            "-virtfs".to_owned(),
            format!(
                "local,path={},mount_tag={tag},security_model=mapped-xattr,id=workspace",
                MachinePath::Workspace.seen_from(MachinePath::Qemu)
            ),
        ]),
    }
    if inputs.verbosity == Verbosity::Debug {
        // QEMU logs to stderr and so to the console log, whose size is limited; a log file's would not be.
        options.extend(["-d", "guest_errors,unimp"].map(str::to_owned));
    }
    options
}

fn net_options(inputs: &Inputs<'_>) -> String {
    let Forwards { mut address, mcp, ssh } = inputs.forwards;
    if inputs.confinement.has_own_network() {
        // QEMU's network namespace has only the loopback address.
        address = Ipv4Addr::LOCALHOST;
    }
    let guest = &inputs.manifest.ports;
    format!("hostfwd=tcp:{address}:{ssh}-:{},hostfwd=tcp:{address}:{mcp}-:{}", guest.ssh, guest.mcp)
}

/// Returns virtiofsd's command, confined: root of a user namespace with only the host user's uid and gid, in its own
/// mount, pid and network namespaces, with a seccomp filter. Every guest uid creates files as the host user, and the
/// host user's files appear as the guest's agent user's.
#[must_use]
pub fn virtiofsd(inputs: &Inputs<'_>) -> Option<Invocation> {
    let virtiofsd = inputs.virtiofsd?;
    let run = MachinePath::Qemu.of(inputs.machine);
    let user = &inputs.manifest.user;
    let all = u32::MAX;
    let level = inputs.verbosity.log_level();
    let account = inputs.confinement.account();
    let daemon = Invocation::new("setpriv")
        .args(["--no-new-privs", "--", "unshare", "--user", "--map-root-user"])
        // All child processes end with unshare.
        .args(["--pid", "--fork", "--kill-child", "--"])
        // A write above the limit of a file's size fails and does not end virtiofsd: see vm/workspace_guard.
        .args(["env", "--ignore-signal=XFSZ", "--"])
        .args(limits::process_limit(inputs.pids))
        .arg(confine::bwrap::place_in_view(account, &virtiofsd.program))
        .args([
            format!("--socket-path={}", MachinePath::VirtiofsdSocket.file_name()),
            format!("--shared-dir={}", MachinePath::Workspace.seen_from(MachinePath::Qemu)),
        ])
        .args([
            "--sandbox=namespace",
            "--seccomp=kill",
            "--inode-file-handles=never",
            "--cache=auto",
            "--no-announce-submounts",
        ])
        .args([format!("--translate-uid=squash-guest:0:0:{all}"), format!("--translate-uid=host:0:{}:1", user.uid)])
        .args([format!("--translate-gid=squash-guest:0:0:{all}"), format!("--translate-gid=host:0:{}:1", user.gid)])
        // The remaining two capabilities let the guest's root ignore file modes.
        .arg("--modcaps=-chown:-fsetid:-setgid:-setuid:-mknod:-setfcap")
        .args([format!("--rlimit-nofile={}", virtiofsd.open_files), format!("--log-level={level}")])
        .cwd(&run)
        .of_machine(inputs.machine);
    let ours = inputs.confinement.landlock.as_deref();
    let daemon = match ours {
        // The namespaces allow only one kind of device.
        Some(ours) => {
            daemon.within(Invocation::new(confine::bwrap::place_in_view(account, ours)).args(["without-devices", "--"]))
        }
        None => daemon,
    };
    // virtiofsd makes the namespaces itself. When agent-vm runs as root, virtiofsd uses another account, which must
    // reach the workspace through root's directories.
    let Some(account) = account else { return Some(daemon) };
    let mut mounts = confine::mount::installation(&virtiofsd.program);
    mounts.extend([Mount::Write(MachinePath::Workspace.of(inputs.machine)), Mount::Write(run)]);
    mounts.extend(ours.map(|ours| Mount::Read(ours.to_owned())));
    Some(confine::bwrap::view(&daemon, account, &mounts))
}

#[cfg(test)]
mod tests;
