//! The egress supervisor, with another program in place of the proxy.

use crate::guest_services::running;
use crate::stand_ins::recorded;
use crate::support::{Running, skip, wait_until};

/// Listens on the port that the proxy is given, as the user whose id is in a file.
const LISTEN: &str = "import os, re, socket, sys, time
port = int(re.search(r'listen_port=(\\d+)', ' '.join(sys.argv)).group(1))
os.setuid(int(open(sys.argv[1]).read()))
listener = socket.create_server(('127.0.0.1', port))
time.sleep(1000)
";

/// Returns an account's user id; None if there is no such account.
fn id_of(name: &str) -> Option<String> {
    let said = std::process::Command::new("id").args(["-u", name]).output().unwrap();
    said.status.success().then(|| String::from_utf8(said.stdout).unwrap().trim().to_owned())
}

/// Another user may bind the proxy's port first: the supervisor then opens no tunnel to it.
#[test]
fn the_tunnel_leads_to_no_other_users_port() {
    let python = "/usr/bin/python3";
    if !rustix::process::geteuid().is_root() || !std::fs::exists(python).unwrap() {
        skip("only root listens as another user, and by /usr/bin/python3");
        return;
    }
    let Some(account) = id_of("agent-vm") else {
        skip("this host has no account agent-vm");
        return;
    };
    let (site, _services) = running();

    let tunnels = || recorded(&site, "ssh").iter().filter(|line| line.contains(" -O forward -R ")).count();
    site.write("listen.py", LISTEN);
    let (script, owner) = (site.path("listen.py"), site.path("owner"));
    site.stand_in("mitmdump", &format!("exec {python} '{}' '{}' \"$@\"", script.display(), owner.display()));
    let record = site.path("record/ssh");
    site.stand_in(
        "ssh",
        &format!(
            "echo \"$*\" >>'{}'\n\
             case \" $* \" in *' -M '*) touch run/tunnel/ssh.sock; exec sleep 1000;; esac",
            record.display()
        ),
    );
    for (user, reached) in [(id_of("nobody").unwrap(), false), (account, true)] {
        site.write("owner", user);
        let log = std::fs::File::create(site.path("said")).unwrap();
        let mut supervisor = site.agent_vm(&["egress", "supervise", "app-main"]);
        let supervisor = Running::new(supervisor.stderr(log).spawn().unwrap());
        let refused = || site.read("said").contains("was taken by another user");
        wait_until("the supervisor's decision", || refused() || tunnels() > 0);
        assert_eq!((tunnels() > 0, refused()), (reached, !reached), "{}", site.read("said"));
        supervisor.signal(rustix::process::Signal::TERM);
        supervisor.output();
    }
}
