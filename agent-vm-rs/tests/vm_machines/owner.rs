//! Root of the machine, for its owner on the host.

use std::fs;
use std::process::{Command, Stdio};

use crate::egress::{holds, memory};
use crate::site::{Done, Site};

/// Copy of a run's key, in the machine's directory.
const FORMER: &str = "former";

/// Runs a script as root of the machine.
fn as_root(site: &Site, script: &str) -> Done {
    site.run(&["exec", "--root", "main", "--", "sh", "-c", script])
}

/// Logs in with a key of the host, and `options` of ssh.
fn ssh(site: &Site, user: &str, key: &str, options: &[&str]) -> Done {
    let mut ssh = Command::new("ssh");
    ssh.current_dir(site.machine("app-main")).args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
    ssh.args(["-o", "HostKeyAlias=agent-vm", "-o", "UserKnownHostsFile=ssh/known_hosts", "-i", key]);
    ssh.args(["-p", &site.status("main")["ssh"]["port"].to_string()]).args(options);
    Done::from(ssh.args([&format!("{user}@127.0.0.1"), "id", "-un"]).stdin(Stdio::null()).output().unwrap(), options)
}

/// Each account has a key of its own, and root's forwards nothing.
fn keys_are_of_one_account(site: &Site) {
    for (user, own, other) in
        [("dev", "ssh/id_ed25519", "run/root_ed25519"), ("root", "run/root_ed25519", "ssh/id_ed25519")]
    {
        assert_eq!(ssh(site, user, own, &[]).ok().stdout, format!("{user}\n"));
        ssh(site, user, other, &[]).exits(255).says("Permission denied (publickey)");
    }
    let strict = ["-o", "ExitOnForwardFailure=yes"];
    for forward in [["-R", "127.0.0.1:3129:127.0.0.1:1"], ["-R", "127.0.0.1:3128:127.0.0.1:1"]] {
        ssh(site, "root", "run/root_ed25519", &[strict, forward].concat()).exits(255).says("forwarding failed");
    }
    ssh(site, "root", "run/root_ed25519", &["-W", "127.0.0.1:22"]).exits(255).says("prohibited");
    // Control: the agent's key may forward to the same port.
    ssh(site, "dev", "ssh/id_ed25519", &["-o", "ConnectTimeout=60", "-W", "127.0.0.1:22"]).ok().says("SSH-2.0");
}

/// The owner is root, and the agent is not.
pub fn the_owner_is_root(site: &Site) {
    assert_eq!(as_root(site, "id -un; pwd").ok().stdout, "root\n/workspace\n");
    assert_eq!(site.exec("main", &["id", "-un"]).ok().stdout, "dev\n");
    for code in [7, 255] {
        as_root(site, &format!("exit {code}")).exits(code);
    }
    keys_are_of_one_account(site);

    // Root's key is not in the guest. Control: its public half is.
    let file = |name: &str| fs::read_to_string(site.machine("app-main").join("run").join(name)).unwrap();
    let (private, public) = (file("root_ed25519"), file("root_ed25519.pub"));
    let private = private.lines().nth(3).unwrap();
    assert_eq!(holds(&memory(site), [private, public.trim()]), [false, true]);

    // What root installs is there for the agent, who cannot change it, and a setuid program gives no rights.
    as_root(site, "cp /usr/bin/id /usr/local/bin/as-root && chmod 4755 /usr/local/bin/as-root").ok();
    as_root(site, "printf '#!/bin/sh\\necho installed\\n' >/usr/bin/tool && chmod 755 /usr/bin/tool").ok();
    as_root(site, "echo '192.0.2.7 by-root' >>/etc/hosts").ok();
    what_root_installed_is_there(site);
    // The servers' namespace has it, too.
    as_root(site, "nsenter --mount --target $(pgrep -o agent-mcp) tool").ok().says("installed");
    // dpkg knows the image's packages, and apt is refused by the egress proxy only.
    as_root(site, "dpkg-query --show openssh-server").ok();
    as_root(site, "apt-get update --error-on=any").exits(100).says("agent-vm egress allow --branch app-main");
    let run = site.machine("app-main").join("run");
    fs::copy(run.join("root_ed25519"), site.machine("app-main").join(FORMER)).unwrap();
}

fn what_root_installed_is_there(site: &Site) {
    assert_eq!(site.exec("main", &["tool"]).ok().stdout, "installed\n");
    site.exec("main", &["getent", "hosts", "by-root"]).ok().says("192.0.2.7");
    let said = site.exec("main", &["sh", "-c", "stat -c %a /usr/local/bin/as-root; as-root -u"]).ok().stdout;
    assert_eq!(said, "4755\n1000\n");
    for path in ["/usr/bin/tool", "/etc/hosts", "/usr/bin/other", "/root/other", "/var/lib/agent-vm/changes/other"] {
        site.exec("main", &["sh", "-c", "echo >>\"$0\"", path]).exits(2).says("Permission denied");
    }
    // The authority of the egress proxy is in the system's list.
    let same = "cmp /run/agent-vm-egress/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt";
    site.exec("main", &["sh", "-c", same]).ok();
}

/// After another start of the machine of [`the_owner_is_root`]: what root installed stays, and the key of the former run does not.
pub fn what_root_installed_stays(site: &Site) {
    what_root_installed_is_there(site);
    ssh(site, "root", FORMER, &[]).exits(255).says("Permission denied (publickey)");
    assert_eq!(as_root(site, "id -un").ok().stdout, "root\n");
}
