//! Argument lists of the proxy and of the tunnel to it: pure.

use std::path::{Path, PathBuf};

use crate::confine::landlock::Network;
use crate::confine::mount::Mount;
use crate::confine::{self, Account, Confinement};
use crate::host::log_file;
use crate::host::process::Invocation;
use crate::machine::paths::MachinePath;

/// The addon's files, as this program was built with: they and the rules' writer change together.
pub const ADDON: [(&str, &str); 17] = [
    ("addon.py", include_str!("../../egress/addon.py")),
    ("audit.py", include_str!("../../egress/audit.py")),
    ("bodies.py", include_str!("../../egress/bodies.py")),
    ("bounds.py", include_str!("../../egress/bounds.py")),
    ("closing.py", include_str!("../../egress/closing.py")),
    ("failure.py", include_str!("../../egress/failure.py")),
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
    ("websocket_frames.py", include_str!("../../egress/websocket_frames.py")),
];

/// What the proxy is started with.
#[derive(Clone, Copy)]
pub struct Proxy<'a> {
    /// The machine's directory.
    pub machine: &'a Path,
    /// mitmdump.
    pub program: &'a Path,
    /// Port on the host's loopback.
    pub port: u16,
    /// Certificates it trusts, if not the system's.
    pub bundle: Option<&'a Path>,
    /// What stands around it.
    pub confinement: &'a Confinement,
}

/// Address space of the proxy, bytes: it needs a tenth.
const MEMORY: u64 = 2 << 30;

/// What reaches hosts by name and knows their certificates, beside what every program sees.
const OF_THE_NETWORK: [&str; 6] =
    ["/etc/ssl", "/etc/static", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ca-certificates"];

/// The proxy, with nothing of the host's files but the system's programs and its own directories.
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
        // A page of mitmproxy's own, which answers in place of a host.
        "onboarding=false".to_owned(),
    ];
    let options = sets.into_iter().chain(bundle).flat_map(|set| ["--set".to_owned(), set]);
    // What the guest sends is kept in memory until it is understood.
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

/// What ssh has of a machine where it runs as that machine's account.
#[must_use]
pub fn mounts_of_ssh(machine: &Path) -> [PathBuf; 2] {
    [MachinePath::Ssh, MachinePath::Tunnel].map(|place| place.of(machine))
}

/// A call of ssh for the tunnel, from ssh's options for the machine. It ends with us, and runs as the machine's account where
/// there is one; as root of a user namespace of that alone, because ssh runs for nobody whose name it does not find.
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
    fn the_tunnels_plans_are_as_they_were() {
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
    fn the_proxys_plans_are_as_they_were() {
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
