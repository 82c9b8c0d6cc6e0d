//! What a machine must not reach, and what must not reach it. Each check has a control that shows that its probe works.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::network::{in_network_of, listening, shares_network};
use crate::reach::{Loopback, reaches_inside, root_reaches, root_scans};
use crate::root::{Package, as_root};
use crate::site::{Done, Running, Site, own_pid, site, skip, wait_until};

/// Returns whether a program in the guest can open a TCP connection. The probe asks for the other end, because Python's
/// `connect` also returns if Linux loses the error (see `reach.py`).
fn connects(site: &Site, address: &str, port: u16) -> bool {
    let probe = format!(
        "import socket\ns = socket.socket()\ns.settimeout(3)\ntry:\n    s.connect(('{address}', {port}))\n    s.getpeername()\n    print('open')\nexcept OSError as e:\n    print('closed', e)"
    );
    let said = site.exec("main", &["python3", "-c", &probe]).ok().stdout;
    assert!(said.starts_with("open") || said.starts_with("closed"), "{said}");
    said.starts_with("open")
}

/// The guest reaches neither the host's loopback through its gateway, nor the host's resolver, nor another network.
pub fn the_guest_reaches_no_host_and_no_network(site: &Site) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Controls: the listener accepts connections, and the guest's probe sees an open port.
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
    listener.accept().unwrap();
    assert!(connects(site, "127.0.0.1", 8000));

    listener.set_nonblocking(true).unwrap();
    for (address, port) in
        [("10.0.2.2", port), ("10.0.2.3", 53), ("10.0.2.2", 22), ("192.0.2.1", 80), ("169.254.169.254", 80)]
    {
        assert!(!connects(site, address, port), "{address}:{port} is open");
    }
    assert!(listener.accept().is_err(), "a connection from the guest arrived");
    let routes = site.exec("main", &["ip", "route"]).ok().stdout;
    assert!(!routes.contains("default"), "{routes}");
}

/// Removes the guest's own restrictions, so that only those of QEMU are left.
fn open_the_guest(site: &Site) {
    let script = "
        set -e
        nft flush ruleset
        ip route add default via 10.0.2.2
        echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6
        echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
        ip -6 address add fec0::15/64 dev eth0 nodad
        ip -6 route add default via fec0::2";
    as_root(site, "main", script).ok();
    assert_eq!(as_root(site, "main", "nft list ruleset").ok().stdout, "");
}

/// Root in the guest removes the firewall and adds routes: QEMU's `restrict=on` still blocks everything.
#[test]
fn root_in_the_guest_reaches_nothing_either() {
    let Some(site) = site() else { return };
    site.create("main");
    let package = Package::copy(&site, "app-main");
    package.give_root("");
    site.start("main");
    open_the_guest(&site);
    let qemu = site.qemu("app-main");
    let loopback = Loopback::of(qemu);
    let port = loopback.port;
    let (tcp, udp) = (format!("tcp:10.0.2.2:{port}"), format!("udp:10.0.2.2:{port}"));

    // Controls: the listener answers on its own side, and root reaches allowed destinations with the same program.
    // Packets do leave the guest: QEMU itself answers a ping of the gateway.
    let (near_tcp, near_udp) = (format!("tcp:127.0.0.1:{port}"), format!("udp:127.0.0.1:{port}"));
    assert!(reaches_inside(qemu, &[&near_tcp, &near_udp]).into_values().eq(["answered", "answered"]));
    let may = ["tcp:10.0.2.15:8000", "icmp:10.0.2.2:0"];
    assert!(root_reaches(&site, &may).into_values().all(|answer| answer == "answered"));

    let refused = root_reaches(
        &site,
        &[
            &tcp,
            &udp,
            "tcp:10.0.2.2:22",
            "tcp:10.0.2.3:53",
            "udp:10.0.2.3:53",
            "tcp:169.254.169.254:80",
            "udp:169.254.169.254:80",
            "tcp:192.0.2.1:80",
            "icmp:192.0.2.1:0",
            &format!("tcp:fec0::2:{port}"),
            &format!("udp:fec0::2:{port}"),
            "udp:fec0::3:53",
            "tcp:2001:db8::1:80",
        ],
    );
    for (destination, answer) in refused {
        // QEMU answers TCP over IPv4 with a reset. An error of the guest's own network would be another. Over IPv6, the kernel
        // gives up to look for the destination's neighbor after the same three seconds.
        let expected: &[&str] = match (destination.starts_with("tcp:"), destination.contains("::")) {
            (_, true) => &["silent", "No route to host"],
            (true, false) => &["Connection refused"],
            (false, false) => &["silent"],
        };
        assert!(expected.contains(&answer.as_str()), "{destination}: {answer}");
    }
    // The same holds for all ports of the gateway, which would be the host; the control is the machine itself.
    assert_eq!(root_scans(&site, "10.0.2.15", 9000), "open [22, 8000], refused 8998\n");
    assert_eq!(root_scans(&site, "10.0.2.2", 10_000), "open [], refused 10000\n");
    assert_eq!(loopback.arrived(), "tcp 1, udp 1", "more than the control's traffic has arrived");

    // Control: without `restrict=on` the traffic arrives. This is tried only if QEMU's network is a loopback of its
    // own, so that nothing gets further.
    if shares_network(qemu) {
        skip("QEMU has no network of its own here, so restrict=on is not tried without it");
        return;
    }
    site.run(&["stop", "main"]).ok();
    package.replace("restrict=on", "restrict=off");
    site.start("main");
    open_the_guest(&site);
    let loopback = Loopback::of(site.qemu("app-main"));
    let (tcp, udp) = (format!("tcp:10.0.2.2:{}", loopback.port), format!("udp:10.0.2.2:{}", loopback.port));
    let said = root_reaches(&site, &[&tcp, &udp]);
    assert_eq!(said[&udp], "answered");
    // QEMU tries to connect; if Landlock forbids TCP, the guest gets an error.
    let (answer, arrived) = match said[&tcp].as_str() {
        "answered" => ("answered", "tcp 1, udp 1"),
        _ => ("Network is unreachable", "tcp 0, udp 1"),
    };
    assert_eq!((said[&tcp].as_str(), loopback.arrived().as_str()), (answer, arrived));
}

/// Changes the forwards of a running machine through QEMU's own socket, as only the machine's owner can; returns QEMU's
/// answer.
fn monitor(site: &Site, name: &str, command: &str) -> String {
    let run = fs::File::open(site.machine(name).join("run/qemu")).unwrap();
    let path = format!("/proc/self/fd/{}/qmp.sock", std::os::fd::AsRawFd::as_raw_fd(&run));
    let mut stream = UnixStream::connect(path).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    answers.next().unwrap().unwrap();
    let commands = [
        serde_json::json!({ "execute": "qmp_capabilities" }),
        serde_json::json!({ "execute": "human-monitor-command", "arguments": { "command-line": command } }),
    ];
    let mut answer = String::new();
    for command in commands {
        writeln!(stream, "{command}").unwrap();
        answer = answers.next().unwrap().unwrap();
        assert!(answer.contains("\"return\""), "{answer}");
    }
    answer
}

/// Makes a forward lead to another port of the guest.
fn forward(site: &Site, host: u16, guest: u16) {
    monitor(site, "app-main", &format!("hostfwd_remove tcp:127.0.0.1:{host}"));
    let answer = monitor(site, "app-main", &format!("hostfwd_add tcp:127.0.0.1:{host}-:{guest}"));
    assert!(!answer.contains("nvalid") && !answer.contains("Could not"), "{answer}");
}

/// Returns whether an HTTP server answers behind a forward, which is in QEMU's network namespace.
fn answers_http(site: &Site, port: u16) -> bool {
    let mut curl = in_network_of(site.qemu("app-main"));
    curl.args(["curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--http0.9"]);
    curl.arg(format!("http://127.0.0.1:{port}/")).status().unwrap().success()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The guest's firewall lets in only ssh and MCP, even if another program listens.
pub fn only_ssh_and_mcp_are_let_in(site: &Site) {
    let args = ["exec", "main", "--", "python3", "-m", "http.server", "9999"];
    let server = site.agent_vm(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _server = Running(server);
    // Control: the server listens on every address.
    wait_until("the server in the guest", || connects(site, "10.0.2.15", 9999));
    let status = site.status("main");
    let (ssh, mcp) = (site.ssh_port("app-main"), site.port("app-main"));
    // Controls before and after: such a forward works.
    assert!(answers_http(site, mcp));
    forward(site, mcp, 9999);
    assert!(!answers_http(site, mcp));
    forward(site, mcp, 8000);
    assert!(answers_http(site, mcp));
    // If Landlock restricts it, QEMU itself can listen on no other port.
    if status["vm"]["confined"].as_str().unwrap().contains("landlock") {
        let answer = monitor(site, "app-main", &format!("hostfwd_add tcp:127.0.0.1:{}-:9999", free_port()));
        assert!(answer.contains("Could not set up host forwarding rule"), "{answer}");
    }

    // On the host, both forwards listen on loopback only, and QEMU listens for these two only.
    let mut forwards = [format!("127.0.0.1:{ssh}"), format!("127.0.0.1:{mcp}")];
    let here = listening(own_pid());
    for port in [ssh, mcp] {
        let of_port: Vec<_> = here.iter().filter(|address| address.ends_with(&format!(":{port}"))).collect();
        assert_eq!(of_port, [&format!("127.0.0.1:{port}")]);
    }
    let qemu = site.qemu("app-main");
    if !shares_network(qemu) {
        forwards.sort();
        assert_eq!(listening(qemu), forwards);
    }
}

/// Runs `id` over ssh as a user, with options.
fn ssh(site: &Site, user: &str, options: &[&str]) -> Done {
    let port = site.status("main")["ssh"]["port"].to_string();
    let machine = site.machine("app-main");
    let mut ssh = Command::new("ssh");
    ssh.current_dir(&machine).args(["-F", "none", "-p", &port, "-o", "BatchMode=yes", "-o", "HostKeyAlias=agent-vm"]);
    ssh.args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]);
    for option in options {
        ssh.args(["-o", option]);
    }
    Done::from(ssh.args([&format!("{user}@127.0.0.1"), "id", "-un"]).stdin(Stdio::null()).output().unwrap(), options)
}

/// The user's ssh agent does not reach the guest, even if the user's configuration forwards it to every host.
fn the_users_ssh_agent_is_not_forwarded(site: &Site) {
    let socket = site.repo().join("../agent.sock");
    let agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    let _agent = Running(agent);
    wait_until("ssh's agent", || socket.exists());
    // Control: the agent answers on its socket.
    let listed = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("no identities"));
    let home = site.repo().join("../home/.ssh");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config"), "ForwardAgent yes\nForwardX11 yes\n").unwrap();
    for verb in ["exec", "shell"] {
        let args: &[&str] = if verb == "exec" { &["exec", "main", "--", "sh"] } else { &["shell", "main"] };
        let mut child = site.agent_vm(args);
        child.env("SSH_AUTH_SOCK", &socket).env("DISPLAY", ":0").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let script = "echo \"agent ${SSH_AUTH_SOCK-none}, display ${DISPLAY-none}, $(ls -d /tmp/ssh-* 2>&1)\"; exit\n";
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let said = Done::from(child.wait_with_output().unwrap(), args);
        assert!(said.stdout.contains("agent none, display none, ls: cannot access"), "{}", said.stdout);
    }
}

/// Only the machine's own key logs in: no password, no root with it, and no other key, not even one that the guest's agent
/// puts into its home. A machine with another host key is refused.
pub fn ssh_checks_the_login_key_and_the_host_key(site: &Site) {
    let (key, known) = ("IdentityFile=ssh/id_ed25519", "UserKnownHostsFile=ssh/known_hosts");
    // Control: the same command with the right key logs in.
    assert_eq!(ssh(site, "dev", &[key, known]).ok().stdout, "dev\n");
    the_users_ssh_agent_is_not_forwarded(site);

    ssh(site, "root", &[key, known]).exits(255).says("Permission denied (publickey)");
    let password = ["PubkeyAuthentication=no", "PreferredAuthentications=password,keyboard-interactive", known];
    ssh(site, "dev", &password).exits(255).says("Permission denied (publickey)");

    let dir = site.machine("app-main");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", "other"])
        .current_dir(&dir)
        .status()
        .unwrap();
    assert!(made.success());
    let public = fs::read_to_string(dir.join("other.pub")).unwrap();
    site.exec(
        "main",
        &[
            "sh",
            "-c",
            "mkdir -pm 700 ~/.ssh && echo \"$1\" > ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys",
            "sh",
            &public,
        ],
    )
    .ok();
    ssh(site, "dev", &["IdentityFile=other", known]).exits(255).says("Permission denied (publickey)");
    let config = site
        .exec("main", &["sh", "-c", "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/* 2>/dev/null; true"])
        .ok()
        .stdout;
    let files = config.lines().find_map(|line| line.strip_prefix("AuthorizedKeysFile ")).unwrap().trim();
    for (account, is_there) in [("dev", true), ("root", false)] {
        for (number, file) in files.replace("%u", account).split(' ').enumerate() {
            assert_eq!(site.exec("main", &["test", "-s", file]).code == Some(0), is_there && number == 0, "{file}");
            site.exec("main", &["sh", "-c", "echo \"$1\" >> \"$0\"", file, &public]).exits(2);
        }
    }

    fs::write(dir.join("wrong"), format!("agent-vm {public}")).unwrap();
    ssh(site, "dev", &[key, "UserKnownHostsFile=wrong"]).exits(255).says("Host key verification failed");
    let known = dir.join("ssh/known_hosts");
    let right = fs::read(&known).unwrap();
    fs::copy(dir.join("wrong"), &known).unwrap();
    crate::site::kill(crate::site::pid_in(&dir.join("run/ssh.pid")), "TERM");
    wait_until("the kept connection to end", || !dir.join("run/ssh.sock").exists());
    site.exec("main", &["true"]).exits(1);
    fs::write(&known, right).unwrap();
    site.exec("main", &["true"]).ok();
}
