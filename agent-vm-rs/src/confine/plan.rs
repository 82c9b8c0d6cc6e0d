//! Argument lists of the sandboxes: pure.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::landlock::{self, Network};
use super::{Account, Confinement, Sandbox};
use crate::process::Invocation;

/// What programs need of the system, of a Debian or a Nix one.
pub(super) const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/run/current-system/sw", "/etc/alternatives", "/etc/ld.so.cache"];

/// Starts the forwarders in the namespace, each with its own listening socket as the third descriptor, and becomes the
/// program. Arguments: the forwarder; descriptor and target of each port; `--`; the program.
const FORWARD: &str = r#"
proxyd=$1
shift
while [[ $1 != -- ]]; do
    (
        exec 3<&"$1" >/dev/null 2>&1 </dev/null
        export LISTEN_FDS=1 LISTEN_PID=$BASHPID
        exec "$proxyd" "$2"
    ) &
    descriptor=$1
    exec {descriptor}<&-
    shift 2
done
shift
exec "$@"
"#;

/// Something of the host's that the sandbox sees where the host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It can be read.
    Read(PathBuf),
    /// It can be read, where it is.
    ReadIfThere(PathBuf),
    /// It can be written.
    Write(PathBuf),
    /// A device.
    Device(PathBuf),
}

/// A listening socket and where its connections go inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Descriptor that the sandbox inherits.
    pub descriptor: RawFd,
    /// Port inside.
    pub port: u16,
}

/// bubblewrap's options for the namespaces, without a view of files.
#[must_use]
pub fn namespaces(sandbox: &Sandbox) -> Vec<&'static str> {
    let mut options = vec!["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--new-session"];
    if sandbox.proxyd.is_some() {
        options.push("--unshare-net");
    }
    match sandbox.account {
        Some(_) => options.extend(CAPABILITIES_TO_DROP),
        None => options.extend(["--unshare-user", "--cap-drop", "ALL"]),
    }
    options
}

/// What comes before a program that is to run as another account.
#[must_use]
pub fn drop_to(account: Option<&Account>) -> Vec<String> {
    let Some(Account { uid, gid, groups }) = account else { return Vec::new() };
    let groups = match groups.as_slice() {
        [] => "--clear-groups".to_owned(),
        ids => format!("--groups={}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    };
    [
        "setpriv".to_owned(),
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        groups,
        "--no-new-privs".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--bounding-set=-all".to_owned(),
        "--".to_owned(),
    ]
    .into()
}

/// A program with nothing of the host's files but the system's programs and `sights`, which listens on `ports` and connects
/// to nothing. In namespaces it is the first process: it dies with none of our processes, and all that it starts dies with it.
#[must_use]
pub fn around(
    program: &Invocation,
    confinement: &Confinement,
    sights: &[Sight],
    network: Network<'_>,
    ports: &[Port],
) -> Invocation {
    let (program, sights) = landlocked(program, confinement, sights, network);
    let Some(sandbox) = &confinement.sandbox else { return program };
    let bwrap = Invocation::new("bwrap").args(namespaces(sandbox)).args(["--as-pid-1", "--proc", "/proc"]);
    let mut bwrap = seeing(bwrap, &program, &sights).args(drop_to(sandbox.account.as_ref()));
    if let Some(proxyd) = sandbox.proxyd.as_ref().filter(|_| !ports.is_empty()) {
        bwrap = bwrap.args(["bash", "-c", FORWARD, "forward"]).arg(proxyd);
        for Port { descriptor, port } in ports {
            bwrap = bwrap.arg(descriptor.to_string()).arg(format!("127.0.0.1:{port}"));
        }
        bwrap = bwrap.arg("--");
    }
    program.within(bwrap)
}

/// As [`around`], for a program that ends with us, on the host's network if the confinement leaves it there.
#[must_use]
pub fn with_us(program: &Invocation, confinement: &Confinement, sights: &[Sight], network: Network<'_>) -> Invocation {
    let (program, sights) = landlocked(program, confinement, sights, network);
    let Some(sandbox) = &confinement.sandbox else { return ending_with_us(&program) };
    let bwrap = Invocation::new("bwrap").args(namespaces(sandbox)).args(["--die-with-parent", "--proc", "/proc"]);
    program.within(seeing(bwrap, &program, &sights).args(drop_to(sandbox.account.as_ref())))
}

/// A program of the host's that reads what a guest has made: it sees nothing else, has no network and ends with us. As root it
/// stays that, of all its rights with the one to read what is in its view; no account but root need own what is there.
#[must_use]
pub fn reading(program: &Invocation, confinement: &Confinement, sights: &[Sight], as_root: bool) -> Invocation {
    let (program, sights) = landlocked(program, confinement, sights, Network::Listen(&[]));
    if confinement.sandbox.is_none() {
        return program;
    }
    let bwrap = Invocation::new("bwrap").args(["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]);
    let bwrap = bwrap.args(["--unshare-cgroup-try", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]);
    let bwrap = if as_root { bwrap.args(["--cap-add", "CAP_DAC_READ_SEARCH"]) } else { bwrap.arg("--unshare-user") };
    program.within(seeing(bwrap, &program, &sights))
}

/// Ended by the kernel as soon as we end, however that is.
#[must_use]
pub fn ending_with_us(program: &Invocation) -> Invocation {
    program.within(Invocation::new("setpriv").args(["--pdeathsig", "KILL", "--"]))
}

/// The inner wall, and what has to be seen for it.
fn landlocked(
    program: &Invocation,
    confinement: &Confinement,
    sights: &[Sight],
    network: Network<'_>,
) -> (Invocation, Vec<Sight>) {
    let mut sights = sights.to_vec();
    let Some(ours) = &confinement.landlock else { return (program.clone(), sights) };
    // Its own, which says whose a connection is; in namespaces it is another one than the host's.
    let kernels = (network == Network::Open).then(|| Sight::Read("/proc".into()));
    let behind: Vec<_> = sights.iter().cloned().chain(kernels).collect();
    let program = landlock::around(program, ours, &behind, network);
    if !is_system(ours) {
        sights.push(Sight::Read(ours.clone()));
    }
    (program, sights)
}

/// A program that makes namespaces of its own, as another account with a view of its own. A kernel lets it mount a /proc in
/// those only where it sees the whole of one, which bubblewrap's is not for root.
#[must_use]
pub fn view(program: &Invocation, account: &Account, sights: &[Sight]) -> Invocation {
    let bwrap = Invocation::new("bwrap").args(["--unshare-ipc", "--unshare-uts", "--unshare-net", "--new-session"]);
    let bwrap = bwrap.args(CAPABILITIES_TO_DROP).args(["--bind", "/proc", "/proc"]);
    program.within(seeing(bwrap, program, sights).args(drop_to(Some(account))))
}

/// What a change of account takes; nothing is left of it after that.
const CAPABILITIES_TO_DROP: [&str; 6] =
    ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"];

/// The files, the working directory, and the end of bubblewrap's options.
fn seeing(bwrap: Invocation, program: &Invocation, sights: &[Sight]) -> Invocation {
    let mut bwrap = bwrap.args(["--dev", "/dev", "--tmpfs", "/tmp"]);
    for directory in ways_to(sights) {
        bwrap = bwrap.arg("--dir").arg(directory);
    }
    for path in SYSTEM {
        bwrap = bwrap.args(["--ro-bind-try", path, path]);
    }
    for sight in sights {
        let (option, path) = match sight {
            Sight::Read(path) => ("--ro-bind", path),
            Sight::ReadIfThere(path) => ("--ro-bind-try", path),
            Sight::Write(path) => ("--bind", path),
            Sight::Device(path) => ("--dev-bind", path),
        };
        bwrap = bwrap.arg(option).arg(path).arg(path);
    }
    let place: &Path = program.cwd.as_deref().unwrap_or(Path::new("/"));
    bwrap.arg("--chdir").arg(place).arg("--")
}

/// What a program needs of the place it is installed in. All of that place is too much: it may be somebody's home.
#[must_use]
pub fn installation(program: &Path) -> Vec<Sight> {
    let Some(bin) = program.parent().filter(|bin| !is_system(bin)) else { return Vec::new() };
    let parts = ["lib", "lib64", "libexec", "share/qemu", "pyvenv.cfg"];
    let beside = bin.parent().into_iter().flat_map(|place| parts.map(|part| place.join(part)));
    std::iter::once(Sight::Read(bin.to_owned())).chain(beside.map(Sight::ReadIfThere)).collect()
}

/// Whether every program sees it anyway.
fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

/// The directories above them and above the system. bubblewrap would make them for their owner alone, which is not who runs
/// there.
fn ways_to(sights: &[Sight]) -> BTreeSet<&Path> {
    let paths = sights.iter().map(|sight| match sight {
        Sight::Read(path) | Sight::ReadIfThere(path) | Sight::Write(path) | Sight::Device(path) => path.as_path(),
    });
    let is_ours =
        |directory: &&Path| *directory != Path::new("/") && *directory != Path::new("/dev") && !is_system(directory);
    paths.chain(SYSTEM.map(Path::new)).flat_map(|path| path.ancestors().skip(1)).filter(is_ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_installation_is_seen_what_is_the_programs() {
        assert_eq!(installation(Path::new("/usr/bin/qemu")), []);
        let seen = installation(Path::new("/home/me/bin/qemu"));
        let paths: Vec<_> = ways_to(&seen).into_iter().collect();
        assert!(
            seen.contains(&Sight::Read("/home/me/bin".into())) && paths.contains(&Path::new("/home/me")),
            "{seen:?}"
        );
        assert!(
            !seen
                .iter()
                .any(|sight| matches!(sight, Sight::Read(path) | Sight::ReadIfThere(path) if path == "/home/me"))
        );
    }

    #[test]
    fn who_reads_has_no_network_and_one_right_at_most() {
        let program = Invocation::new("git").arg("status").cwd("/machine/workspace");
        let confinement = Confinement { sandbox: Some(Sandbox { account: None, proxyd: None }), landlock: None };
        for (name, as_root) in [("reading", false), ("reading_as_root", true)] {
            let plan = reading(&program, &confinement, &[Sight::Read("/machine/workspace".into())], as_root);
            insta::assert_snapshot!(name, format!("{plan:#?}"));
        }
    }

    #[test]
    fn the_plans_are_as_they_were() {
        let program = Invocation::new("/guest/bin/run").arg("a b").env("X", "y").cwd("/machine/run/qemu");
        let sights =
            [Sight::Read("/guest".into()), Sight::Write("/machine/disk".into()), Sight::Device("/dev/kvm".into())];
        let ports = [Port { descriptor: 9, port: 2222 }];
        let account = Some(Account { uid: 998, gid: 997, groups: vec![107] });
        let proxyd = Some(PathBuf::from("/lib/systemd/systemd-socket-proxyd"));
        let landlock = Some(PathBuf::from("/opt/bin/agent-vm"));
        let user = Sandbox { account: None, proxyd: proxyd.clone() };
        for (name, sandbox, landlock) in [
            ("as_root", Some(Sandbox { account, proxyd }), landlock.clone()),
            ("as_a_user", Some(user.clone()), landlock.clone()),
            ("without_landlock", Some(user), None),
            ("without_a_forwarder", Some(Sandbox { account: None, proxyd: None }), None),
            ("landlock_alone", None, landlock),
        ] {
            let plan = around(&program, &Confinement { sandbox, landlock }, &sights, Network::Listen(&[2222]), &ports);
            insta::assert_snapshot!(name, format!("{plan:#?}"));
        }
    }
}
