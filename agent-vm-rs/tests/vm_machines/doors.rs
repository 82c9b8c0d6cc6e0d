//! Ports and files of a machine, through our commands and through other programs' ssh.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::site::{Done, Running, Site, wait_until};

const ALIAS: &str = "agent-vm-app-main";

fn free() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Serves the workspace in the machine, on one address.
fn serve(site: &Site, address: &str, port: &str) -> Running {
    let server = ["exec", "main", "--", "python3", "-m", "http.server", "--bind", address, port];
    Running(site.agent_vm(&server).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Returns the answer to a request; empty if there is none.
fn get(port: u16) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        drop(stream.write_all(b"GET /README HTTP/1.0\r\n\r\n"));
        drop(stream.read_to_string(&mut answer));
    }
    answer
}

/// Runs a program of OpenSSH with the installed configuration; its input is `input`.
fn by_ssh(site: &Site, program: &str, args: &[&str], input: &str) -> Done {
    let config = site.repo().join("../home/.ssh/agent-vm.config");
    let mut child = Command::new(program);
    child.arg("-F").arg(config).args(["-o", "BatchMode=yes"]).args(args).current_dir(site.repo());
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Done::from(child.wait_with_output().unwrap(), args)
}

/// sshd forwards only to the guest's loopback, also for a client with the login key.
fn only_the_loopback_is_forwarded(site: &Site) {
    let through = |destination: &str| by_ssh(site, "ssh", &["-W", destination, ALIAS], "GET /README HTTP/1.0\r\n\r\n");
    // Control: the same request to the loopback.
    through("127.0.0.1:8080").says("hello");
    let address = site.exec("main", &["sh", "-c", "hostname -I"]).ok().stdout.trim().to_owned();
    for destination in [format!("{address}:22"), "0.0.0.0:8080".to_owned(), "10.0.2.2:22".to_owned()] {
        through(&destination).exits(255).says("administratively prohibited");
    }
    let listens = |spec: &str| by_ssh(site, "ssh", &["-o", "ExitOnForwardFailure=yes", "-R", spec, ALIAS, "true"], "");
    for spec in ["127.0.0.1:9999:127.0.0.1:22", "/tmp/socket:127.0.0.1:22"] {
        listens(spec).exits(255).says("remote port forwarding failed");
    }
}

fn other_programs_copy_files(clients: &Path, site: &Site) {
    assert_eq!(by_ssh(site, "ssh", &[ALIAS, "id", "-un"], "").ok().stdout, "dev\n");
    let batch = "put README /workspace/by-sftp\nget /workspace/by-sftp back-by-sftp\n";
    by_ssh(site, "sftp", &["-b", "-", ALIAS], batch).ok();
    by_ssh(site, "scp", &["README", &format!("{ALIAS}:/workspace/by-scp")], "").ok();
    site.exec("main", &["cmp", "by-sftp", "by-scp"]).ok();
    assert_eq!(fs::read_to_string(site.repo().join("back-by-sftp")).unwrap(), "hello\n");
    let config = site.repo().join("../home/.ssh/agent-vm.config");
    let mut rsync = Command::new("rsync");
    rsync
        .args(["-e", &format!("ssh -F {}", config.display())])
        .args(["README", &format!("{ALIAS}:/workspace/by-rsync")]);
    assert!(rsync.current_dir(site.repo()).status().unwrap().success());
    site.exec("main", &["cmp", "by-sftp", "by-rsync"]).ok();
    let mut library = Command::new(clients.join("ssh-library"));
    let library = library.arg(config).args([ALIAS, "README"]).current_dir(site.repo()).output().unwrap();
    assert_eq!(Done::from(library, &["ssh-library"]).ok().stdout, "dev\n");
    site.exec("main", &["cmp", "by-sftp", "by-library"]).ok();
}

/// Copies both ways; then a guest whose tar is the agent's own tries to write elsewhere on this host.
fn a_copy_stays_below_its_destination(site: &Site) {
    let repo = site.repo();
    fs::create_dir_all(repo.join("tree/sub")).unwrap();
    fs::write(repo.join("tree/sub/file"), "text").unwrap();
    site.run(&["cp", "tree", "main:copied"]).ok();
    site.exec("main", &["ln", "-s", "/etc/passwd", "copied/link"]).ok();
    site.exec("main", &["mkfifo", "copied/pipe"]).ok();
    site.run(&["cp", "main:copied", "back"]).ok().says("2 items not copied");
    assert_eq!(fs::read_to_string(repo.join("back/sub/file")).unwrap(), "text");
    assert!(repo.join("back/link").symlink_metadata().is_err());

    let hostile = "mkdir -p ~/bin && printf '#!/bin/sh\\nexec /usr/bin/tar -P --transform=s,^./sub/file,./../../escape, \"$@\"\\n' \
                   >~/bin/tar && chmod +x ~/bin/tar && echo 'PATH=$HOME/bin:$PATH' >~/.bashrc";
    site.exec("main", &["sh", "-c", hostile]).ok();
    // Control: commands of this host run it.
    site.exec("main", &["sh", "-c", "command -v tar"]).ok().says("/home/dev/bin/tar");
    site.run(&["cp", "main:copied", "again"]).exits(1).says("the machine sent a file outside the copied directory");
    assert!(
        !Path::new(&repo).join("escape").exists() && !repo.join("../escape").exists() && !repo.join("again").exists()
    );
    site.exec("main", &["sh", "-c", "rm ~/.bashrc"]).ok();
}

/// Ports and files reach the machine, and nothing else. Returns the host's port of the machine's 8080.
pub fn ports_and_files_reach_the_machine(site: &Site, clients: &Path) -> u16 {
    let (four, six) = (free(), free());
    site.run(&["port", "main", &format!("8080:{four}"), &format!("8086:{six}")]).ok().says("(forwarded)");
    let servers = [serve(site, "127.0.0.1", "8080"), serve(site, "::1", "8086")];
    for port in [four, six] {
        wait_until("the server", || get(port).ends_with("hello\n"));
    }
    // The connection is lost and comes back.
    let keeper = crate::site::pid_in(&site.machine("app-main").join("run/forwards.pid"));
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    children.split_whitespace().for_each(|pid| crate::site::kill(pid.parse().unwrap(), "KILL"));
    wait_until("the server again", || get(four).ends_with("hello\n"));

    site.run(&["ssh-config", "--write"]).ok().says(ALIAS);
    only_the_loopback_is_forwarded(site);
    other_programs_copy_files(clients, site);
    a_copy_stays_below_its_destination(site);
    drop(servers);
    // For the next start.
    site.run(&["set", "main", &format!("ssh_port={}", free())]).ok();
    four
}

/// After a stop: `port` is the host's.
pub fn a_stopped_machine_has_no_ports(port: u16) {
    assert_eq!(get(port), "");
}

/// After another start: a new port of ssh changes nothing for the alias, and the forwards are back.
pub fn forwards_come_back(site: &Site, port: u16) {
    let _server = serve(site, "127.0.0.1", "8080");
    wait_until("the server after the restart", || get(port).ends_with("hello\n"));
    by_ssh(site, "ssh", &[ALIAS, "true"], "").ok();
}
