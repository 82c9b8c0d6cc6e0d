//! The confinement of QEMU, virtiofsd and the proxy on the host: what they could do if a guest took them over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::network::{in_network_of, namespace};
use crate::site::{Site, own_pid, site, skip};

/// Returns the fields of a process's status.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Returns the entries of a directory as a process sees it; None if the directory does not exist.
fn sees(pid: i32, path: &str) -> Option<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/root{path}")).ok()?;
    Some(entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect())
}

/// Returns the processes of a machine that run a program.
fn running(site: &Site, name: &str, program: &str) -> Vec<i32> {
    let runs = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == program);
    site.processes(name).into_iter().filter(runs).collect()
}

/// Checks that a process is not root and can never become root.
fn assert_without_rights(pid: i32) {
    let seen = status(pid);
    let uid: Vec<u32> = seen["Uid"].split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert!(uid.iter().all(|id| *id != 0), "{uid:?}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(seen[set], "0000000000000000", "{set}");
    }
    assert_eq!(seen["NoNewPrivs"], "1");
    // An ordinary user cannot leave groups.
    if rustix::process::geteuid().is_root() {
        assert_eq!(seen["Groups"], "");
    }
}

/// Checks that a process has a system call filter of its own.
fn assert_filtered(pid: i32) {
    let filters = |status: &BTreeMap<String, String>| status["Seccomp_filters"].parse::<u32>().unwrap();
    let (seen, own) = (status(pid), status(own_pid()));
    assert_eq!(seen["Seccomp"], "2");
    // Control: the test's process, which may have filters as well, has fewer.
    assert!(filters(&seen) > filters(&own), "{own:?}");
}

/// Returns whether systemd-socket-proxyd is installed, which forwards a machine's ports into its network namespace.
fn has_socket_proxy() -> bool {
    ["/usr/lib/systemd", "/lib/systemd"].iter().any(|dir| Path::new(dir).join("systemd-socket-proxyd").exists())
}

/// Checks that, started by root, every process that a guest could take over runs as an account which is this machine's
/// alone; the process that holds the namespaces does, too.
fn assert_own_account(site: &Site, qemu: i32) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let account = status(qemu)["Uid"].clone();
    let id = account.split_whitespace().next().unwrap();
    assert!(!Command::new("id").args(["--", id]).output().unwrap().status.success(), "{id} is an existing account");
    // The exceptions are agent-vm's own supervisor and watcher, and the ssh connection of its commands.
    let roots: Vec<_> = site.processes("app-main").into_iter().filter(|pid| status(*pid)["Uid"] != account).collect();
    let names: Vec<_> = roots.iter().map(|pid| status(*pid)["Name"].clone()).collect();
    assert!(names.iter().all(|name| name == "agent-vm" || name == "ssh") && names.len() <= 3, "{names:?}");
}

/// Opens a file that programs which this process starts inherit; returns it with its path.
fn planted(dir: &Path) -> (fs::File, PathBuf) {
    let path = dir.join("planted");
    let file = fs::File::create(&path).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let seen = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap().stdout;
    // Control: a program that is started has the file, and this process has variables to inherit.
    assert!(String::from_utf8(seen).unwrap().contains(path.to_str().unwrap()));
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    (file, path)
}

/// Checks that no process of the machine has inherited a file, a variable or a limit of this process.
fn assert_nothing_inherited(site: &Site, planted: &Path) {
    for pid in site.processes("app-main") {
        let name = status(pid)["Name"].clone();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        assert!(!open.iter().any(|path| path == planted), "{name}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{name}: {core}");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(!String::from_utf8_lossy(&environment).contains("CARGO"), "{name}");
    }
}

#[test]
fn qemu_virtiofsd_and_the_proxy_are_confined() {
    let Some(site) = site() else { return };
    let is_root = rustix::process::geteuid().is_root();
    site.create("main");
    let other = site.create("other");
    let (_open, planted) = planted(&fs::canonicalize(site.repo().join("..")).unwrap());
    site.start("main");
    let qemu = site.qemu("app-main");

    // This holds on every host. Control: this process has not given up new privileges.
    assert_filtered(qemu);
    let own = status(own_pid());
    assert_eq!((status(qemu)["NoNewPrivs"].as_str(), own["NoNewPrivs"].as_str()), ("1", "0"));

    let confined = site.status("main")["vm"]["confined"].clone();
    if !is_root && !confined.as_str().unwrap().contains("namespaces") {
        skip(&format!("this host gives an ordinary user no namespaces: {confined}"));
        return;
    }
    if confined.as_str().unwrap().contains("without a network of its own") && !has_socket_proxy() {
        skip("systemd's socket proxy is not installed");
        return;
    }
    assert!(confined == "namespaces" || confined == "namespaces, landlock", "{confined}");
    assert_without_rights(qemu);
    // Control: this process could get capabilities and, as root, has them.
    assert_ne!(own["CapBnd"], "0000000000000000");
    assert!(!is_root || own["Uid"].starts_with('0') && own["CapEff"] != "0000000000000000", "{own:?}");
    let me = own_pid();
    for kind in ["mnt", "pid", "ipc", "uts", "net", "user"] {
        assert_ne!(namespace(qemu, kind), namespace(me, kind), "{kind}");
    }
    // QEMU sees programs, its own directory and its guest. Control: this process sees more in the same way.
    let state = site.machine("");
    let state = state.to_str().unwrap().trim_end_matches('/').to_owned();
    assert!(sees(me, &state).unwrap().contains(&other));
    assert_eq!(sees(qemu, &state).unwrap(), ["app-main"]);
    let mut own_files = sees(qemu, &format!("{state}/app-main")).unwrap();
    own_files.sort();
    assert_eq!(own_files, ["disk.qcow2", "run"]);
    assert_eq!(sees(qemu, &format!("{state}/app-main/run")).unwrap(), ["qemu"]);
    for path in ["/etc/ssh", "/etc/passwd", "/var", "/sys", "/boot"] {
        assert!(fs::exists(path).unwrap(), "{path} is not on this host");
        assert!(!fs::exists(format!("/proc/{qemu}/root{path}")).unwrap(), "{path} is seen");
    }
    // Of /run, QEMU sees at most the link to a NixOS system's programs. Control: this host has other entries there.
    assert!(sees(me, "/run").unwrap().iter().any(|name| name != "current-system"));
    assert_eq!(sees(qemu, "/run").unwrap(), ["current-system"]);
    let devices = sees(qemu, "/dev").unwrap();
    assert!(devices.iter().all(|name| !name.starts_with("vd") && name != "kmsg" && name != "mem"), "{devices:?}");

    // QEMU's network has only a loopback interface, on which only its forwards listen.
    let said = in_network_of(qemu).args(["ip", "-o", "link"]).output().unwrap();
    let links = String::from_utf8(said.stdout).unwrap();
    assert!(links.lines().count() == 1 && links.contains(": lo:"), "{links}");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 3)");
    let refused = in_network_of(qemu).args(["python3", "-c", &connect]).output().unwrap().stderr;
    assert!(String::from_utf8_lossy(&refused).contains("ConnectionRefusedError"));
    assert!(Command::new("python3").args(["-c", &connect]).output().unwrap().status.success());

    let daemons = running(&site, "app-main", "virtiofsd");
    assert!(!daemons.is_empty());
    for daemon in daemons {
        let seen = status(daemon);
        assert!(!seen["Uid"].starts_with('0') && seen["NoNewPrivs"] == "1", "{seen:?}");
        assert_ne!(namespace(daemon, "user"), namespace(me, "user"));
        assert_ne!(namespace(daemon, "net"), namespace(me, "net"));
    }
    // The virtiofsd that serves has the workspace as its root, and a system call filter.
    let filters = |pid: &i32| status(*pid)["Seccomp_filters"].parse::<u32>().unwrap();
    let mut daemons = running(&site, "app-main", "virtiofsd");
    daemons.sort_by_key(filters);
    let [waiting, serving] = daemons[..] else { panic!("{daemons:?}") };
    assert_filtered(serving);
    // It adds its own filter to that of agent-vm, which forbids both processes to make devices.
    assert!(filters(&serving) > filters(&waiting));
    assert!(sees(serving, "/").unwrap().contains(&"README".to_owned()));

    // The proxy uses the host's network and sees only its own files.
    let proxies = running(&site, "app-main", "mitmdump");
    assert_eq!(proxies.len(), 1, "{proxies:?}");
    let proxy = proxies[0];
    assert_without_rights(proxy);
    assert_filtered(proxy);
    for kind in ["mnt", "pid", "ipc", "uts", "user"] {
        assert_ne!(namespace(proxy, kind), namespace(me, kind), "{kind}");
    }
    let mut own_files = sees(proxy, &format!("{state}/app-main")).unwrap();
    own_files.sort();
    assert_eq!(own_files, ["egress", "run"]);
    let mut own_files = sees(proxy, &format!("{state}/app-main/egress")).unwrap();
    own_files.sort();
    // It sees neither the stored certificate authority nor secrets of other machines.
    assert_eq!(own_files, ["log", "rules"]);
    for path in ["/etc/ssh", "/etc/passwd", "/var", "/root"] {
        assert!(!fs::exists(format!("/proc/{proxy}/root{path}")).unwrap(), "{path} is seen");
    }

    assert_nothing_inherited(&site, &planted);
    assert_own_account(&site, qemu);

    // All processes end with QEMU, whatever ends it.
    crate::site::kill(qemu, "KILL");
    crate::site::wait_until("its port forwarders to end", || {
        let listening =
            Command::new("ss").args(["-Hltn", &format!("sport = {}", site.port("app-main"))]).output().unwrap();
        listening.stdout.is_empty()
    });
    site.run(&["stop", "main"]).ok();
    assert!(site.processes("app-main").is_empty());
}
