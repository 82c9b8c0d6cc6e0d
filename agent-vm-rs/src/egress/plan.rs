//! Argument lists of the proxy and of the tunnel to it: pure.

use std::path::Path;

use super::authority::CA_DIR;
use super::log::LOG_DIR;
use super::rules::RULES_DIR;
use crate::process::Invocation;

/// Directory of the addon's files in `run/`.
pub const ADDON_DIR: &str = "egress";

/// The addon's files, as this program was built with: they and the rules' writer change together.
pub const ADDON: [(&str, &str); 6] = [
    ("addon.py", include_str!("../../egress/addon.py")),
    ("audit.py", include_str!("../../egress/audit.py")),
    ("issuer.py", include_str!("../../egress/issuer.py")),
    ("peer.py", include_str!("../../egress/peer.py")),
    ("rules.py", include_str!("../../egress/rules.py")),
    ("secrets_broker.py", include_str!("../../egress/secrets_broker.py")),
];

/// What the proxy is started with.
pub struct Proxy<'a> {
    /// The machine's directory.
    pub machine: &'a Path,
    /// mitmdump.
    pub program: &'a Path,
    /// Port on the host's loopback.
    pub port: u16,
    /// Certificates it trusts, if not the system's.
    pub bundle: Option<&'a Path>,
    /// Whether it can be confined.
    pub confined: bool,
}

/// Paths that programs and Python need, of a Debian or a Nix system.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/lib",
    "/lib64",
    "/nix/store",
    "/run/current-system/sw",
    "/etc/ssl",
    "/etc/static",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ca-certificates",
];

/// The proxy, with nothing of the host's files but the system's programs and its own directories.
#[must_use]
pub fn proxy(inputs: &Proxy<'_>) -> Invocation {
    let Proxy { machine, program, port, .. } = inputs;
    // Where its directories are in its own view.
    let (rules, log, ca, addon) =
        (machine.join(RULES_DIR), machine.join(LOG_DIR), machine.join(CA_DIR), machine.join("run").join(ADDON_DIR));
    let bundle = inputs.bundle.map(|path| format!("ssl_verify_upstream_trusted_ca={}", path.display()));
    let sets = [
        "listen_host=127.0.0.1".to_owned(),
        format!("listen_port={port}"),
        format!("confdir={}", ca.display()),
        format!("agent_vm_dir={}", machine.join("egress").display()),
        // A page of mitmproxy's own, which answers in place of a host.
        "onboarding=false".to_owned(),
    ];
    let options = sets.into_iter().chain(bundle).flat_map(|set| ["--set".to_owned(), set]);
    let words = [program.as_os_str().to_owned(), "--quiet".into()].into_iter();
    let words = words.chain(options.map(Into::into));
    let words = words.chain(["-s".into(), addon.join("addon.py").into_os_string()]);
    if !inputs.confined {
        return with_death_of_parent(words).of_machine(machine);
    }
    let mut bwrap = Invocation::new("bwrap").args([
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
    ]);
    for path in SYSTEM {
        bwrap = bwrap.args(["--ro-bind-try", path, path]);
    }
    // Where it is installed for one user alone it is outside of those.
    let installation =
        program.parent().and_then(Path::parent).filter(|place| !SYSTEM.iter().any(|path| place.starts_with(path)));
    for path in installation.into_iter().chain(inputs.bundle).chain([rules.as_path(), addon.as_path()]) {
        bwrap = bwrap.arg("--ro-bind").arg(path).arg(path);
    }
    for path in [&log, &ca] {
        bwrap = bwrap.arg("--bind").arg(path).arg(path);
    }
    bwrap.args(["--chdir", "/", "--"]).args(words).of_machine(machine)
}

/// Ended by the kernel as soon as we end, however that is.
fn with_death_of_parent(words: impl Iterator<Item = std::ffi::OsString>) -> Invocation {
    Invocation::new("setpriv").args(["--pdeathsig", "KILL", "--"]).args(words)
}

/// A kept ssh connection (its socket is `run/egress.sock`) for the tunnel, from ssh's options for the machine.
#[must_use]
pub fn connection(ssh: &Invocation) -> Invocation {
    let words = std::iter::once(ssh.program.clone()).chain(ssh.args.iter().cloned());
    let mut invocation = with_death_of_parent(words);
    invocation.cwd.clone_from(&ssh.cwd);
    invocation.env.clone_from(&ssh.env);
    invocation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_plan_is_as_it_was() {
        let inputs = Proxy {
            machine: Path::new("/state dir/app-main"),
            program: Path::new("/usr/bin/mitmdump"),
            port: 40000,
            bundle: Some(Path::new("/home/me/ca.pem")),
            confined: true,
        };
        insta::assert_snapshot!(format!("{:#?}\n{:#?}", proxy(&inputs), proxy(&Proxy { confined: false, ..inputs })));
    }
}
