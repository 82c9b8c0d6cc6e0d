//! From settings and manifest to argument lists: pure, so that tests compare values.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::confine::landlock::Network;
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement};
use crate::guest::manifest::{Manifest, Share, Start};
use crate::host::process::Invocation;
use crate::machine::accel::Accel;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;
use crate::term::verbosity::Verbosity;

/// Where the machine is reached on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwards {
    /// Address that both ports are bound on.
    pub address: Ipv4Addr,
    /// Host port of MCP.
    pub mcp: u16,
    /// Host port of ssh.
    pub ssh: u16,
}

/// virtiofsd as found on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtiofsd {
    /// Its path.
    pub program: PathBuf,
    /// Open files it may have: one for each file the guest knows of.
    pub open_files: u64,
}

/// All that a start depends on.
pub struct Inputs<'a> {
    /// The machine's directory.
    pub machine: &'a Path,
    /// The guest package.
    pub package: &'a Path,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// The machine's settings.
    pub settings: &'a Settings,
    /// QEMU itself.
    pub program: &'a Path,
    /// Where it is installed, if the system's programs are elsewhere.
    pub qemu: &'a [Mount],
    /// What its start needs besides.
    pub start: &'a Start,
    /// Accelerator that works here.
    pub accel: Accel,
    /// Where it is reached.
    pub forwards: Forwards,
    /// The workspace's daemon, if the share needs it.
    pub virtiofsd: Option<&'a Virtiofsd>,
    /// How much is logged.
    pub verbosity: Verbosity,
    /// What stands around them.
    pub confinement: &'a Confinement,
    /// Ports that are carried into it, in the order of their sockets.
    pub ports: &'a [u16],
}

/// The runner: QEMU with the run-time facts that the guest package does not know. Every path in its
/// options is relative to [`MachinePath::Qemu`], so that no path of the user's can be taken apart.
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
    confine::bwrap::around(&runner, inputs.confinement, &mounts, Network::Listen(&[ssh, mcp]), inputs.ports)
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
        // virtiofsd reads and writes the guest's memory itself, so that has to be shareable.
        "-object".to_owned(),
        format!("memory-backend-memfd,id=agent-vm-ram,size={memory}M,share=on"),
        "-machine".to_owned(),
        "memory-backend=agent-vm-ram,dump-guest-core=off".to_owned(),
        "-qmp".to_owned(),
        format!("unix:{},server=on,wait=off", MachinePath::QmpSocket.file_name()),
    ];
    let prefix = &inputs.start.credential_prefix;
    for name in manifest.credentials.all() {
        options.extend([
            "-fw_cfg".to_owned(),
            format!("name={prefix}{name},file={}/{name}", MachinePath::Credentials.file_name()),
        ]);
    }
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
            format!("local,path=../../workspace,mount_tag={tag},security_model=mapped-xattr,id=workspace"),
        ]),
    }
    if inputs.verbosity == Verbosity::Debug {
        // To its standard error, and so to the console's log: a file of its own would have no bound.
        options.extend(["-d", "guest_errors,unimp"].map(str::to_owned));
    }
    options
}

fn net_options(inputs: &Inputs<'_>) -> String {
    let Forwards { mut address, mcp, ssh } = inputs.forwards;
    if inputs.confinement.has_own_network() {
        // Its namespace has no other.
        address = Ipv4Addr::LOCALHOST;
    }
    let guest = &inputs.manifest.ports;
    format!("hostfwd=tcp:{address}:{ssh}-:{},hostfwd=tcp:{address}:{mcp}-:{}", guest.ssh, guest.mcp)
}

/// virtiofsd for the workspace, confined: as the root of a user namespace that has the one uid and gid of
/// the host's user, in its own mount, pid and network namespaces, with a seccomp filter. Every guest uid
/// creates files as that user, and that user's files show as the guest's agent user's.
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
        // All that it starts ends with it.
        .args(["--pid", "--fork", "--kill-child", "--"])
        .arg(confine::bwrap::place_in_view(account, &virtiofsd.program))
        .args([
            format!("--socket-path={}", MachinePath::VirtiofsdSocket.file_name()),
            "--shared-dir=../../workspace".to_owned(),
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
        // What is left are the two that let the guest's root pass over file modes.
        .arg("--modcaps=-chown:-fsetid:-setgid:-setuid:-mknod:-setfcap")
        .args([format!("--rlimit-nofile={}", virtiofsd.open_files), format!("--log-level={level}")])
        .cwd(&run)
        .of_machine(inputs.machine);
    let ours = inputs.confinement.landlock.as_deref();
    let daemon = match ours {
        // In its namespaces the kernel lets it make one kind of device.
        Some(ours) => {
            daemon.within(Invocation::new(confine::bwrap::place_in_view(account, ours)).args(["without-devices", "--"]))
        }
        None => daemon,
    };
    // It makes namespaces itself; as root it has to come to the workspace as another account, past directories of root's.
    let Some(account) = account else { return Some(daemon) };
    let mut mounts = confine::mount::installation(&virtiofsd.program);
    mounts.extend([Mount::Write(MachinePath::Workspace.of(inputs.machine)), Mount::Write(run)]);
    mounts.extend(ours.map(|ours| Mount::Read(ours.to_owned())));
    Some(confine::bwrap::view(&daemon, account, &mounts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::manifest::tests::SAMPLE;
    use crate::machine::settings::tests::sample;

    fn planned(manifest: &str, accel: Accel) -> String {
        let manifest = Manifest::parse(manifest).unwrap();
        let settings = sample();
        let daemon = Virtiofsd { program: "/opt/virtiofsd".into(), open_files: 1_000_000 };
        let inputs = Inputs {
            machine: Path::new("/state dir/app-main"),
            package: Path::new("/cache/guest"),
            manifest: &manifest,
            settings: &settings,
            program: Path::new("/usr/bin/qemu-system-x86_64"),
            qemu: &[],
            start: manifest.qemu.start().unwrap(),
            accel,
            forwards: Forwards { address: Ipv4Addr::LOCALHOST, mcp: 8001, ssh: 2223 },
            virtiofsd: (manifest.workspace.share == Share::Virtiofs).then_some(&daemon),
            verbosity: Verbosity::Normal,
            confinement: &Confinement::default(),
            ports: &[],
        };
        format!("{:#?}\n{:#?}", virtiofsd(&inputs), runner(&inputs))
    }

    #[test]
    fn the_plans_are_as_they_were() {
        insta::assert_snapshot!("tcg_virtiofs", planned(SAMPLE, Accel::Tcg));
        insta::assert_snapshot!("kvm_9p", planned(&SAMPLE.replace("\"virtiofs\"", "\"9p\""), Accel::Kvm));
    }

    /// As root the daemon is started where its account finds all that it names.
    #[test]
    fn an_account_finds_the_daemon_and_what_becomes_it() {
        let manifest = Manifest::parse(SAMPLE).unwrap();
        let settings = sample();
        let daemon = Virtiofsd { program: "/opt/libexec/virtiofsd".into(), open_files: 1_000_000 };
        let ours = PathBuf::from("/opt/bin/agent-vm");
        let account = confine::Account { uid: 7, gid: 7, groups: Vec::new(), stage: Some(ours.clone()) };
        let sandbox = Some(confine::Sandbox { account: Some(account), proxyd: None });
        let inputs = Inputs {
            machine: Path::new("/root/app-main"),
            package: Path::new("/cache/guest"),
            manifest: &manifest,
            settings: &settings,
            program: Path::new("/usr/bin/qemu-system-x86_64"),
            qemu: &[],
            start: manifest.qemu.start().unwrap(),
            accel: Accel::Tcg,
            forwards: Forwards { address: Ipv4Addr::LOCALHOST, mcp: 8001, ssh: 2223 },
            virtiofsd: Some(&daemon),
            verbosity: Verbosity::Normal,
            confinement: &Confinement { sandbox, landlock: Some(ours) },
            ports: &[],
        };
        let words = virtiofsd(&inputs).unwrap().args;
        let staged: Vec<_> = words.windows(2).filter(|pair| pair[0] == "--path").map(|pair| pair[1].clone()).collect();
        for word in words.iter().filter_map(|word| word.to_str()?.strip_prefix("/tmp/")) {
            let place = Path::new("/").join(word);
            assert!(staged.iter().any(|path| place.starts_with(path)), "{} is not on the stage", place.display());
        }
    }

    #[test]
    fn no_option_holds_a_path_of_the_users() {
        for share in ["\"virtiofs\"", "\"9p\""] {
            let manifest = Manifest::parse(&SAMPLE.replace("\"virtiofs\"", share)).unwrap();
            let settings = sample();
            let inputs = Inputs {
                machine: Path::new("/state dir/app-main"),
                package: Path::new("/cache/guest"),
                manifest: &manifest,
                settings: &settings,
                program: Path::new("/usr/bin/qemu-system-x86_64"),
                qemu: &[],
                start: manifest.qemu.start().unwrap(),
                accel: Accel::Tcg,
                forwards: Forwards { address: Ipv4Addr::LOCALHOST, mcp: 8000, ssh: 2222 },
                virtiofsd: None,
                verbosity: Verbosity::Debug,
                confinement: &Confinement::default(),
                ports: &[],
            };
            let options = qemu_options(&inputs);
            assert!(
                options.iter().all(|option| !option.contains("state dir") && !option.contains(char::is_whitespace)),
                "{options:?}"
            );
        }
    }
}
