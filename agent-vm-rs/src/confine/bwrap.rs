//! Argument lists of the sandboxes: pure, but for where symbolic links lead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::landlock::{self, Network};
use super::mount::{Mount, SYSTEM, is_system, real};
use super::{Account, Confinement, Sandbox, stage};
use crate::host::process::Invocation;

/// Starts the forwarders in the namespace, each with its own listening socket as the third descriptor and no other's, and
/// becomes the program, which has none. Arguments: number of the forwarder's words, and these; target of each port, whose sockets are the descriptors from
/// the third on; `--`; the program.
const FORWARD: &str = r#"
count=$1
forwarder=("${@:2:count}")
shift $((1 + count))
targets=() sockets=()
while [[ $1 != -- ]]; do
    targets+=("$1") sockets+=($((3 + ${#sockets[@]})))
    shift
done
shift
for index in "${!targets[@]}"; do
    (
        exec {own}<&"${sockets[index]}"
        for socket in "${sockets[@]}"; do exec {socket}<&-; done
        exec 3<&"$own" >/dev/null 2>&1 </dev/null
        exec {own}<&-
        export LISTEN_FDS=1 LISTEN_PID=$BASHPID
        exec "${forwarder[@]}" "${targets[index]}"
    ) &
done
for socket in "${sockets[@]}"; do exec {socket}<&-; done
exec "$@"
"#;

/// bubblewrap's options for the namespaces, without a view of files.
#[must_use]
pub fn namespaces(sandbox: &Sandbox) -> Vec<&'static str> {
    let mut options = vec!["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--new-session"];
    if sandbox.proxyd.is_some() {
        options.push("--unshare-net");
    }
    match &sandbox.account {
        Some(Account { stage: None, .. }) => options.extend(CAPABILITIES_TO_DROP),
        _ => options.extend(["--unshare-user", "--cap-drop", "ALL"]),
    }
    options
}

/// What comes before a program that is to run as another account.
#[must_use]
pub fn drop_to(account: Option<&Account>) -> Vec<String> {
    let Some(Account { uid, gid, groups, .. }) = account else { return Vec::new() };
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

/// What comes before a program in namespaces that root has made: in those that its account has made, it is that already.
pub(super) fn drop_inside(sandbox: &Sandbox) -> Vec<String> {
    drop_to(sandbox.account.as_ref().filter(|account| account.stage.is_none()))
}

/// Namespaces that are made by whom they are for, where that can be: an account of a machine's own is on a stage then.
pub(super) fn made_by(sandbox: &Sandbox, bwrap: Invocation, binds: &[Mount], sockets: usize) -> Invocation {
    let Some((account, ours)) = sandbox.account.as_ref().and_then(|account| Some((account, account.stage.as_ref()?)))
    else {
        return bwrap;
    };
    let paths: Vec<_> = binds.iter().map(Mount::path).collect();
    stage::on(&bwrap, ours, account, &paths, Path::new("/"), sockets)
}

/// A program with nothing of the host's files but the system's programs and `mounts`, which listens on `ports` and connects
/// to nothing. In namespaces it is the first process: it dies with none of our processes, and all that it starts dies with it.
#[must_use]
pub fn around(
    program: &Invocation,
    confinement: &Confinement,
    mounts: &[Mount],
    network: Network<'_>,
    ports: &[u16],
) -> Invocation {
    let (program, mounts) = landlocked(program, confinement, mounts, network);
    let Some(sandbox) = &confinement.sandbox else { return program };
    let bwrap = Invocation::new("bwrap").args(namespaces(sandbox)).args(["--as-pid-1", "--proc", "/proc"]);
    let binds = binds(&mounts);
    let mut bwrap = seeing(bwrap, &program, &binds, sandbox.account.as_ref()).args(drop_inside(sandbox));
    if let Some(proxyd) = sandbox.proxyd.as_ref().filter(|_| !ports.is_empty()) {
        let forwarder = match &confinement.landlock {
            Some(ours) => landlock::forwarder(proxyd, ours, ports),
            None => Invocation::new(proxyd),
        };
        bwrap = bwrap.args(["bash", "-c", FORWARD, "forward"]).arg((1 + forwarder.args.len()).to_string());
        bwrap = bwrap.arg(forwarder.program).args(forwarder.args);
        for port in ports {
            bwrap = bwrap.arg(format!("127.0.0.1:{port}"));
        }
        bwrap = bwrap.arg("--");
    }
    made_by(sandbox, program.within(bwrap), &binds, ports.len())
}

/// As [`around`], for a program that ends with us, on the host's network if the confinement leaves it there.
#[must_use]
pub fn with_us(program: &Invocation, confinement: &Confinement, mounts: &[Mount], network: Network<'_>) -> Invocation {
    let (program, mounts) = landlocked(program, confinement, mounts, network);
    let Some(sandbox) = &confinement.sandbox else { return ending_with_us(&program) };
    let bwrap = Invocation::new("bwrap").args(namespaces(sandbox)).args(["--die-with-parent", "--proc", "/proc"]);
    let binds = binds(&mounts);
    let bwrap = seeing(bwrap, &program, &binds, sandbox.account.as_ref()).args(drop_inside(sandbox));
    made_by(sandbox, program.within(bwrap), &binds, 0)
}

/// A program of the host's that reads what a guest has made: it sees nothing else, has no network and ends with us. As root it
/// stays that, of all its rights with the one to read what is in its view; no account but root need own what is there.
#[must_use]
pub fn reading(program: &Invocation, confinement: &Confinement, mounts: &[Mount], as_root: bool) -> Invocation {
    let (program, mounts) = landlocked(program, confinement, mounts, Network::Listen(&[]));
    if confinement.sandbox.is_none() {
        return program;
    }
    let bwrap = Invocation::new("bwrap").args(["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]);
    let bwrap = bwrap.args(["--unshare-cgroup-try", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]);
    let bwrap = if as_root { bwrap.args(["--cap-add", "CAP_DAC_READ_SEARCH"]) } else { bwrap.arg("--unshare-user") };
    program.within(seeing(bwrap, &program, &binds(&mounts), None))
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
    mounts: &[Mount],
    network: Network<'_>,
) -> (Invocation, Vec<Mount>) {
    let mut mounts = mounts.to_vec();
    let Some(ours) = &confinement.landlock else { return (program.clone(), mounts) };
    // Its own, which says whose a connection is; in namespaces it is another one than the host's.
    let kernels = (network == Network::Open).then(|| Mount::Read("/proc".into()));
    let behind: Vec<_> = mounts.iter().cloned().chain(kernels).collect();
    let program = landlock::around(program, ours, &behind, network);
    if !is_system(ours) {
        mounts.push(Mount::Read(ours.clone()));
    }
    (program, mounts)
}

/// A program that makes namespaces of its own, as another account with a view of its own: what is in it is at
/// [`place_in_view`]. A kernel lets it mount a /proc in those only where it sees the whole of one, which bubblewrap's is not
/// for root.
#[must_use]
pub fn view(program: &Invocation, account: &Account, mounts: &[Mount]) -> Invocation {
    let binds = binds(mounts);
    if let Some(ours) = &account.stage {
        let paths: Vec<_> = binds.iter().map(Mount::path).collect();
        let dir = program.cwd.as_deref().map_or_else(|| "/".into(), stage::place);
        return stage::on(&program.clone().cwd("/"), ours, account, &paths, &dir, 0);
    }
    let bwrap = Invocation::new("bwrap").args(["--unshare-ipc", "--unshare-uts", "--unshare-net", "--new-session"]);
    let bwrap = bwrap.args(CAPABILITIES_TO_DROP).args(["--bind", "/proc", "/proc"]);
    program.within(seeing(bwrap, program, &binds, Some(account)).args(drop_to(Some(account))))
}

/// Where a path of the host's is in a [`view`] that has it.
#[must_use]
pub fn place_in_view(account: Option<&Account>, path: &Path) -> PathBuf {
    if is_system(path) { path.to_owned() } else { source(account, path) }
}

/// What a change of account takes; nothing is left of it after that.
const CAPABILITIES_TO_DROP: [&str; 6] =
    ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"];

/// The files, the working directory, and the end of bubblewrap's options, for who makes the namespaces.
fn seeing(bwrap: Invocation, program: &Invocation, binds: &[Mount], account: Option<&Account>) -> Invocation {
    let mut bwrap = bwrap.args(["--dev", "/dev", "--tmpfs", "/tmp"]);
    for directory in ways_to(binds) {
        bwrap = bwrap.arg("--dir").arg(directory);
    }
    for path in SYSTEM {
        bwrap = bwrap.args(["--ro-bind-try", path, path]);
    }
    for bind in binds {
        let option = match bind {
            Mount::Read(_) => "--ro-bind",
            Mount::ReadIfThere(_) => "--ro-bind-try",
            Mount::Write(_) => "--bind",
            Mount::Device(_) => "--dev-bind",
        };
        bwrap = bwrap.arg(option).arg(source(account, bind.path())).arg(bind.path());
    }
    let place: &Path = program.cwd.as_deref().unwrap_or(Path::new("/"));
    bwrap.arg("--chdir").arg(place).arg("--")
}

/// Where who makes the namespaces finds a path of the host's.
fn source(account: Option<&Account>, path: &Path) -> PathBuf {
    if account.is_some_and(|account| account.stage.is_some()) { stage::place(path) } else { path.to_owned() }
}

/// Returns what bubblewrap binds for these mounts besides the system: every place once, a directory before what is in it.
///
/// bubblewrap mounts on no symbolic link, and makes nothing in a place that is bound read-only. So what lies in another
/// mount or in the system goes by its real path, and is left out where it can be read already. In a Nix store nearly every
/// path is one or the other.
fn binds(mounts: &[Mount]) -> Vec<Mount> {
    let is_in_another = |path: &Path| {
        is_system(path) || mounts.iter().any(|other| other.path() != path && path.starts_with(other.path()))
    };
    let mut resolved: Vec<Mount> = mounts
        .iter()
        .map(|mount| if is_in_another(mount.path()) { mount.at(real(mount.path())) } else { mount.clone() })
        .collect();
    resolved.sort_by_key(|mount| mount.path().components().count());
    let mut binds: Vec<Mount> = Vec::new();
    for mount in resolved {
        // The last one is the deepest, and decides.
        let around = binds.iter().rev().find(|bind| mount.path().starts_with(bind.path()));
        let can_be_read = around.map_or_else(|| is_system(mount.path()), Mount::is_read);
        if !(binds.contains(&mount) || mount.is_read() && can_be_read) {
            binds.push(mount);
        }
    }
    binds
}

/// The directories above them and above the system. bubblewrap would make them for their owner alone, which is not who runs
/// there.
fn ways_to(mounts: &[Mount]) -> BTreeSet<&Path> {
    let paths = mounts.iter().map(Mount::path);
    let is_ours =
        |directory: &&Path| *directory != Path::new("/") && *directory != Path::new("/dev") && !is_system(directory);
    paths.chain(SYSTEM.map(Path::new)).flat_map(|path| path.ancestors().skip(1)).filter(is_ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::mount::installation;

    #[test]
    fn of_an_installation_is_seen_what_is_the_programs() {
        assert_eq!(installation(Path::new("/usr/bin/qemu")), []);
        let seen = installation(Path::new("/home/me/bin/qemu"));
        let paths: Vec<_> = ways_to(&seen).into_iter().collect();
        assert!(
            seen.contains(&Mount::Read("/home/me/bin".into())) && paths.contains(&Path::new("/home/me")),
            "{seen:?}"
        );
        assert!(
            !seen
                .iter()
                .any(|mount| matches!(mount, Mount::Read(path) | Mount::ReadIfThere(path) if path == "/home/me"))
        );
    }

    #[test]
    fn what_can_be_read_already_is_not_bound_again() {
        let read = |path: &str| Mount::Read(path.into());
        let write = |path: &str| Mount::Write(path.into());
        let none: [Mount; 0] = [];
        assert_eq!(binds(&[read("/usr/share/qemu"), read("/nix/store/x/kernel"), read("/nix/store")]), none);
        assert_eq!(binds(&[read("/a/b"), read("/a"), read("/a")]), [read("/a")]);
        // In the system or in what can be read there is still something to write, and the other way round.
        assert_eq!(
            binds(&[write("/usr/local/x"), write("/a/b"), read("/a")]),
            [read("/a"), write("/a/b"), write("/usr/local/x")]
        );
        assert_eq!(binds(&[read("/a/b"), write("/a"), read("/a/b/c")]), [write("/a"), read("/a/b")]);
        let device = Mount::Device("/dev/kvm".into());
        assert_eq!(binds(&[device.clone(), device.clone()]), [device]);
    }

    /// As packages of Nix are laid out: a file is a link into another package, beside the one that names it or elsewhere.
    #[test]
    #[expect(clippy::print_stdout, reason = "a test says so that it was skipped")]
    fn links_in_what_is_bound_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for place in ["store/linux", "store/guest", "elsewhere"] {
            std::fs::create_dir_all(root.join(place)).unwrap();
        }
        std::fs::write(root.join("store/linux/bzImage"), "kernel").unwrap();
        std::fs::write(root.join("elsewhere/initrd"), "initrd").unwrap();
        std::os::unix::fs::symlink("../linux/bzImage", root.join("store/guest/kernel")).unwrap();
        std::os::unix::fs::symlink(root.join("elsewhere/initrd"), root.join("store/guest/initrd")).unwrap();
        let read = |path: &str| Mount::Read(root.join(path));
        let mounts = [read("store/guest/kernel"), read("store/guest/initrd"), read("store")];
        assert_eq!(binds(&mounts), [read("store"), read("elsewhere/initrd")]);
        // One that lies in nothing else is bound where it is.
        assert_eq!(binds(&mounts[..1]), mounts[..1]);

        let confinement = Confinement { sandbox: Some(Sandbox { account: None, proxyd: None }), landlock: None };
        let words = ["store/guest/kernel", "store/guest/initrd"].map(|path| root.join(path));
        let cat = reading(&Invocation::new("cat").args(words).cwd("/"), &confinement, &mounts, false);
        if reading(&Invocation::new("true").cwd("/"), &confinement, &[], false).checked().is_err() {
            println!("AGENT_VM_SKIP: no namespaces can be made here");
            return;
        }
        assert_eq!(cat.read().unwrap(), "kernelinitrd");
    }

    #[test]
    fn an_installation_is_seen_by_both_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/bin")).unwrap();
        std::fs::create_dir_all(root.join("named/bin")).unwrap();
        std::fs::write(root.join("real/bin/qemu"), "").unwrap();
        std::os::unix::fs::symlink(root.join("real/bin/qemu"), root.join("named/bin/qemu")).unwrap();
        let seen = installation(&root.join("named/bin/qemu"));
        for place in ["named/bin", "real/bin"] {
            assert!(seen.contains(&Mount::Read(root.join(place))), "{seen:?}");
        }
        assert_eq!(installation(&root.join("real/bin/qemu")).len(), 6);
    }

    #[test]
    fn who_reads_has_no_network_and_one_right_at_most() {
        let program = Invocation::new("git").arg("status").cwd("/machine/workspace");
        let confinement = Confinement { sandbox: Some(Sandbox { account: None, proxyd: None }), landlock: None };
        for (name, as_root) in [("reading", false), ("reading_as_root", true)] {
            let plan = reading(&program, &confinement, &[Mount::Read("/machine/workspace".into())], as_root);
            insta::assert_snapshot!(name, format!("{plan:#?}"));
        }
    }

    #[test]
    fn the_plans_are_as_they_were() {
        let program = Invocation::new("/guest/bin/run").arg("a b").env("X", "y").cwd("/machine/run/qemu");
        let mounts =
            [Mount::Read("/guest".into()), Mount::Write("/machine/disk".into()), Mount::Device("/dev/kvm".into())];
        let ports = [2222];
        let account = Some(Account { uid: 998, gid: 997, groups: vec![107], stage: None });
        let proxyd = Some(PathBuf::from("/lib/systemd/systemd-socket-proxyd"));
        let landlock = Some(PathBuf::from("/opt/bin/agent-vm"));
        let staged =
            Some(Account { uid: 1_900_000_000, gid: 1_900_000_000, groups: vec![107], stage: landlock.clone() });
        let own = Sandbox { account: staged, proxyd: proxyd.clone() };
        let user = Sandbox { account: None, proxyd: proxyd.clone() };
        for (name, sandbox, landlock) in [
            ("as_root", Some(Sandbox { account, proxyd }), landlock.clone()),
            ("as_root_with_its_own", Some(own), landlock.clone()),
            ("as_a_user", Some(user.clone()), landlock.clone()),
            ("without_landlock", Some(user), None),
            ("without_a_forwarder", Some(Sandbox { account: None, proxyd: None }), None),
            ("landlock_alone", None, landlock),
        ] {
            let plan = around(&program, &Confinement { sandbox, landlock }, &mounts, Network::Listen(&[2222]), &ports);
            insta::assert_snapshot!(name, format!("{plan:#?}"));
        }
    }
}
