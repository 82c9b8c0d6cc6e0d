//! Argument lists of the sandboxes. No function here touches the system, except to resolve links.

use std::path::{Path, PathBuf};

use super::binds::{binds, source, with_files};
use super::forward::{self, Rate};
use super::landlock::{self, Network};
use super::mount::{Mount, is_system};
use super::setpriv::{drop_inside, drop_to};
use super::{Account, Confinement, Sandbox, stage};
use crate::host::process::Invocation;

/// Bash script that starts the forwarders in the namespace, each with only its own listening socket, as descriptor 3, and then
/// executes the program without any. Arguments: number of the forwarder's words, and these; the target of each port, whose
/// sockets are the descriptors from 3 up; `--`; the program.
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

/// Returns bubblewrap's options for the namespaces, without those for files.
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

/// Runs bubblewrap as the account that the namespaces are for, on a stage, if it can create them.
pub(super) fn made_by(sandbox: &Sandbox, bwrap: Invocation, binds: &[Mount], sockets: usize) -> Invocation {
    let Some((account, ours)) = sandbox.account.as_ref().and_then(|account| Some((account, account.stage.as_ref()?)))
    else {
        return bwrap;
    };
    let paths: Vec<_> = binds.iter().map(Mount::path).collect();
    stage::on(&bwrap, ours, account, &paths, Path::new("/"), sockets)
}

/// Returns a program in a sandbox: it sees the system's programs and `mounts`, listens on `ports` and connects nowhere. In its
/// pid namespace it is the first process: it survives our exit, and its children end with it.
#[must_use]
pub fn around(
    program: &Invocation,
    confinement: &Confinement,
    mounts: &[Mount],
    network: Network<'_>,
    ports: &[u16],
    rate: Option<Rate<'_>>,
) -> Invocation {
    let (program, mut mounts) = landlocked(program, confinement, mounts, network);
    let Some(sandbox) = &confinement.sandbox else { return program };
    mounts.extend(rate.iter().flat_map(files_of_rate));
    let bwrap = Invocation::new("bwrap").args(namespaces(sandbox)).args(["--as-pid-1", "--proc", "/proc"]);
    let binds = binds(&mounts);
    let mut bwrap = with_files(bwrap, &program, &binds, sandbox.account.as_ref()).args(drop_inside(sandbox));
    if let Some(proxyd) = sandbox.proxyd.as_ref().filter(|_| !ports.is_empty()) {
        let (forwarder, files) = match rate {
            Some(rate) => (forward::command(rate), files_of_rate(&rate)),
            None => (Invocation::new(proxyd), super::mount::installation(proxyd)),
        };
        let forwarder = match &confinement.landlock {
            Some(ours) => landlock::forwarder(&forwarder, &files, ours, ports),
            None => forwarder,
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

/// Returns the files that a forwarder with a limited rate needs.
fn files_of_rate(rate: &Rate<'_>) -> Vec<Mount> {
    [rate.ours, rate.file].map(|file| Mount::Read(file.to_owned())).into()
}

/// Returns a program in a sandbox as [`around`] does; it ends with this process, and may have the host's network.
#[must_use]
pub fn with_us(program: &Invocation, confinement: &Confinement, mounts: &[Mount], network: Network<'_>) -> Invocation {
    let (program, mounts) = landlocked(program, confinement, mounts, network);
    let Some(sandbox) = &confinement.sandbox else { return ending_with_us(&program) };
    let bwrap = Invocation::new("bwrap").args(namespaces(sandbox)).args(["--die-with-parent", "--proc", "/proc"]);
    let binds = binds(&mounts);
    let bwrap = with_files(bwrap, &program, &binds, sandbox.account.as_ref()).args(drop_inside(sandbox));
    made_by(sandbox, program.within(bwrap), &binds, 0)
}

/// Returns a host program in a sandbox for reading files that a guest wrote: it sees nothing else, has no network and ends with
/// this process. With `as_root`, it stays root with one capability, `CAP_DAC_READ_SEARCH`: no other account may own the files.
#[must_use]
pub fn reading(program: &Invocation, confinement: &Confinement, mounts: &[Mount], as_root: bool) -> Invocation {
    let (program, mounts) = landlocked(program, confinement, mounts, Network::Listen(&[]));
    if confinement.sandbox.is_none() {
        return program;
    }
    let bwrap = Invocation::new("bwrap").args(["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]);
    let bwrap = bwrap.args(["--unshare-cgroup-try", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]);
    let bwrap = if as_root { bwrap.args(["--cap-add", "CAP_DAC_READ_SEARCH"]) } else { bwrap.arg("--unshare-user") };
    program.within(with_files(bwrap, &program, &binds(&mounts), None))
}

/// Returns a program that the kernel kills when this process ends, however it ends.
#[must_use]
pub fn ending_with_us(program: &Invocation) -> Invocation {
    program.within(Invocation::new("setpriv").args(["--pdeathsig", "KILL", "--"]))
}

/// Adds Landlock, with the mounts that it must allow.
fn landlocked(
    program: &Invocation,
    confinement: &Confinement,
    mounts: &[Mount],
    network: Network<'_>,
) -> (Invocation, Vec<Mount>) {
    let mut mounts = mounts.to_vec();
    let Some(ours) = &confinement.landlock else { return (program.clone(), mounts) };
    // The host's /proc, which shows the owner of a connection; a pid namespace has its own.
    let kernels = (network == Network::Open).then(|| Mount::Read("/proc".into()));
    let behind: Vec<_> = mounts.iter().cloned().chain(kernels).collect();
    let program = landlock::around(program, ours, &behind, network);
    if !is_system(ours) {
        mounts.push(Mount::Read(ours.clone()));
    }
    (program, mounts)
}

/// Returns a program that creates namespaces itself, run as another account with its own view of files: see
/// [`place_in_view`]. The kernel allows mounting /proc in nested namespaces only where the whole of one is visible, which
/// bubblewrap's is not for root.
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
    program.within(with_files(bwrap, program, &binds, Some(account)).args(drop_to(Some(account))))
}

/// Returns where a [`view`] shows a path of the host's.
#[must_use]
pub fn place_in_view(account: Option<&Account>, path: &Path) -> PathBuf {
    if is_system(path) { path.to_owned() } else { source(account, path) }
}

/// Capabilities needed to change the account; setpriv drops them.
const CAPABILITIES_TO_DROP: [&str; 6] =
    ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_sandboxes_have_no_network_and_at_most_one_capability() {
        let program = Invocation::new("git").arg("status").cwd("/machine/workspace");
        let confinement = Confinement { sandbox: Some(Sandbox { account: None, proxyd: None }), landlock: None };
        for (name, as_root) in [("reading", false), ("reading_as_root", true)] {
            let plan = reading(&program, &confinement, &[Mount::Read("/machine/workspace".into())], as_root);
            insta::assert_snapshot!(name, format!("{plan:#?}"));
        }
    }

    #[test]
    fn sandbox_arguments_match_the_snapshots() {
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
            let plan =
                around(&program, &Confinement { sandbox, landlock }, &mounts, Network::Listen(&[2222]), &ports, None);
            insta::assert_snapshot!(name, format!("{plan:#?}"));
        }
        let confinement = Confinement {
            sandbox: Some(Sandbox { account: None, proxyd: Some("/lib/systemd/systemd-socket-proxyd".into()) }),
            landlock: Some("/opt/bin/agent-vm".into()),
        };
        let rate = Rate { ours: Path::new("/opt/bin/agent-vm"), file: Path::new("/machine/run/network-rate") };
        let plan = around(&program, &confinement, &mounts, Network::Listen(&[2222]), &ports, Some(rate));
        insta::assert_snapshot!("with_a_limited_rate", format!("{plan:#?}"));
    }
}
