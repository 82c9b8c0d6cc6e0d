//! Argument lists of the egress proxy and of the ssh tunnel to it. No function here touches the system.

use std::path::{Path, PathBuf};

use crate::confine::landlock::Network;
use crate::confine::mount::Mount;
use crate::confine::{self, Account, Confinement};
use crate::host::log_file;
use crate::host::process::Invocation;
use crate::machine::paths::MachinePath;

/// The files of the proxy's addon, compiled in: they must match the rules that this program writes.
pub const ADDON: [(&str, &str); 19] = [
    ("addon.py", include_str!("../../egress/addon.py")),
    ("audit.py", include_str!("../../egress/audit.py")),
    ("bodies.py", include_str!("../../egress/bodies.py")),
    ("bounds.py", include_str!("../../egress/bounds.py")),
    ("closing.py", include_str!("../../egress/closing.py")),
    ("failure.py", include_str!("../../egress/failure.py")),
    ("host_proxy.py", include_str!("../../egress/host_proxy.py")),
    ("issuer.py", include_str!("../../egress/issuer.py")),
    ("network.py", include_str!("../../egress/network.py")),
    ("peer.py", include_str!("../../egress/peer.py")),
    ("refusal.py", include_str!("../../egress/refusal.py")),
    ("requests_read.py", include_str!("../../egress/requests_read.py")),
    ("resolver.py", include_str!("../../egress/resolver.py")),
    ("rules.py", include_str!("../../egress/rules.py")),
    ("secrets_broker.py", include_str!("../../egress/secrets_broker.py")),
    ("special_addresses.py", include_str!("../../egress/special_addresses.py")),
    ("tunnel.py", include_str!("../../egress/tunnel.py")),
    ("upstream.py", include_str!("../../egress/upstream.py")),
    ("websocket_frames.py", include_str!("../../egress/websocket_frames.py")),
];

/// Inputs of the proxy's argument list.
#[derive(Clone, Copy)]
pub struct Proxy<'a> {
    /// The machine's directory.
    pub machine: &'a Path,
    /// Path of mitmdump.
    pub program: &'a Path,
    /// Port on the host's loopback.
    pub port: u16,
    /// File of trusted certificate authorities, if not the system's.
    pub bundle: Option<&'a Path>,
    /// The proxy's sandbox.
    pub confinement: &'a Confinement,
}

/// Limit of the proxy's address space in bytes, about ten times what it needs.
const MEMORY: u64 = 2 << 30;

/// Files that the proxy reads to resolve names and verify certificates.
const OF_THE_NETWORK: [&str; 6] =
    ["/etc/ssl", "/etc/static", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ca-certificates"];

/// Returns the command that runs the proxy. It sees only the system's programs and its own directories.
#[must_use]
pub fn proxy(inputs: &Proxy<'_>) -> Invocation {
    let Proxy { machine, program, port, .. } = inputs;
    let [rules, log, ca, addon] =
        [MachinePath::EgressRulesDir, MachinePath::EgressLogDir, MachinePath::ProxyAuthority, MachinePath::ProxyAddon]
            .map(|place| place.of(machine));
    let bundle = inputs.bundle.map(|path| format!("ssl_verify_upstream_trusted_ca={}", path.display()));
    let sets = [
        "listen_host=127.0.0.1".to_owned(),
        format!("listen_port={port}"),
        format!("confdir={}", ca.display()),
        format!("agent_vm_rules={}", MachinePath::EgressRules.of(machine).display()),
        format!("agent_vm_log={}", MachinePath::EgressLog.of(machine).display()),
        format!("agent_vm_denied={}", MachinePath::EgressDenied.of(machine).display()),
        format!("agent_vm_log_bytes={}", log_file::LONGEST),
        // mitmproxy's own page, which would answer instead of a host.
        "onboarding=false".to_owned(),
    ];
    let options = sets.into_iter().chain(bundle).flat_map(|set| ["--set".to_owned(), set]);
    // mitmproxy buffers requests in memory until they are parsed.
    let proxy = Invocation::new("prlimit")
        .arg(format!("--as={MEMORY}"))
        .arg("--")
        .arg(program)
        .arg("--quiet")
        .args(options)
        .arg("-s")
        .arg(addon.join("addon.py"));
    let network = OF_THE_NETWORK.iter().map(|path| Mount::ReadIfThere(path.into()));
    let read = inputs.bundle.into_iter().chain([rules.as_path(), addon.as_path()]).map(|path| Mount::Read(path.into()));
    let write = [Mount::Write(log), Mount::Write(ca)];
    let mounts: Vec<_> =
        confine::mount::installation(program).into_iter().chain(network).chain(read).chain(write).collect();
    confine::bwrap::with_us(&proxy.cwd("/").of_machine(machine), inputs.confinement, &mounts, Network::Open)
}

/// Returns the directories of a machine that the tunnel's ssh may use when it runs as the machine's account.
#[must_use]
pub fn mounts_of_ssh(machine: &Path) -> [PathBuf; 2] {
    [MachinePath::Ssh, MachinePath::Tunnel].map(|place| place.of(machine))
}

/// Returns the command that runs an ssh command for the tunnel. It is killed when this process ends. If the machine has an
/// account, it runs as that, mapped to root in a user namespace: ssh refuses to run for a user id without a name.
#[must_use]
pub fn tunnel(ssh: &Invocation, machine: &Path, account: Option<&Account>) -> Invocation {
    let ssh = confine::bwrap::ending_with_us(ssh);
    let Some(account) = account.filter(|account| account.stage.is_some()) else { return ssh };
    let as_root = ssh.within(Invocation::new("unshare").args(["--user", "--map-root-user", "--"]));
    let mounts = mounts_of_ssh(machine).map(Mount::Write);
    confine::bwrap::view(&as_root.cwd(machine), account, &mounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::Sandbox;

    #[test]
    fn tunnel_arguments_match_the_snapshots() {
        let ssh = Invocation::new("ssh").args(["-M", "-N"]).cwd("/state dir/app-main");
        let account = Account {
            uid: 1_900_000_000,
            gid: 1_900_000_000,
            groups: Vec::new(),
            stage: Some("/usr/bin/agent-vm".into()),
        };
        for (name, account) in [("tunnel_of_a_user", None), ("tunnel_of_an_account", Some(account))] {
            let tunnel = tunnel(&ssh, Path::new("/state dir/app-main"), account.as_ref());
            insta::assert_snapshot!(name, format!("{tunnel:#?}"));
        }
    }

    #[test]
    fn proxy_arguments_match_the_snapshots() {
        let inputs = Proxy {
            machine: Path::new("/state dir/app-main"),
            program: Path::new("/usr/bin/mitmdump"),
            port: 40000,
            bundle: Some(Path::new("/home/me/ca.pem")),
            confinement: &Confinement::default(),
        };
        let landlock = Some("/usr/bin/agent-vm".into());
        let user = Some(Sandbox { account: None, proxyd: None });
        let root = Some(Sandbox {
            account: Some(Account { uid: 998, gid: 997, groups: Vec::new(), stage: None }),
            proxyd: None,
        });
        for (name, confinement) in [
            ("unconfined", Confinement::default()),
            ("landlocked", Confinement { sandbox: None, landlock }),
            ("of_a_user", Confinement { sandbox: user, landlock: None }),
            ("of_root", Confinement { sandbox: root, landlock: None }),
        ] {
            insta::assert_snapshot!(name, format!("{:#?}", proxy(&Proxy { confinement: &confinement, ..inputs })));
        }
    }
}
