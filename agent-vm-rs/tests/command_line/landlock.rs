//! The Landlock sandbox and the system call filter around QEMU and the proxy, tried by programs in them.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use crate::support::{Done, Site, landlock, namespaces, skip, which};

/// Makes a site with the directories `mine` and `others`; None, with the test reported as skipped, if the kernel has no
/// Landlock.
fn landlock_site() -> Option<Site> {
    if !landlock() {
        return None;
    }
    let site = Site::new();
    for dir in ["mine", "others"] {
        fs::create_dir(site.path(dir)).unwrap();
        fs::write(site.path(dir).join("file"), "text").unwrap();
    }
    Some(site)
}

fn run_sandboxed(site: &Site, rules: &[&str], program: &[&str]) -> Done {
    let words = ["landlocked"].iter().chain(rules).chain(&["--"]).chain(program).copied();
    site.run(&words.collect::<Vec<_>>())
}

fn works(site: &Site, rules: &[&str], program: &[&str]) -> bool {
    run_sandboxed(site, rules, program).code == Some(0)
}

#[test]
fn only_listed_paths_are_read_and_written() {
    let Some(site) = landlock_site() else { return };
    let (mine, others) = (site.path("mine"), site.path("others"));
    let mine = mine.to_str().unwrap();
    let (file, other) = (format!("{mine}/file"), format!("{}/file", others.display()));
    for rules in [["--read", mine], ["--write", mine]] {
        assert!(works(&site, &rules, &["cat", &file]), "{rules:?}");
        assert!(!works(&site, &rules, &["cat", &other]), "{rules:?}");
        assert!(!works(&site, &rules, &["ls", others.to_str().unwrap()]), "{rules:?}");
    }
    let write = |path: &str| format!("echo new > '{path}'");
    assert!(works(&site, &["--write", mine], &["sh", "-c", &write(&file)]));
    assert!(!works(&site, &["--read", mine], &["sh", "-c", &write(&file)]));
    assert!(!works(&site, &["--write", mine], &["sh", "-c", &write(&other)]));
    assert_eq!(fs::read_to_string(&other).unwrap(), "text");
    // A program in a directory that is only writable cannot be run.
    let run = format!("echo 'exit 0' > '{mine}/program' && chmod +x '{mine}/program' && '{mine}/program'");
    assert!(!works(&site, &["--write", mine], &["sh", "-c", &run]));
    assert!(works(&site, &["--write", mine, "--read", mine], &["sh", "-c", &run]));
}

#[test]
fn only_the_listed_ports_are_listened_on_and_connected_to() {
    let Some(site) = landlock_site() else { return };
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = listener.local_addr().unwrap().port();
    let free = {
        let passing = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        passing.local_addr().unwrap().port().to_string()
    };
    let connect = format!(": > /dev/tcp/127.0.0.1/{taken}");
    let listen = format!("import socket; socket.create_server(('127.0.0.1', {free}))");
    assert!(works(&site, &[], &["bash", "-c", &connect]));
    assert!(!works(&site, &["--no-network"], &["bash", "-c", &connect]));
    assert!(works(&site, &["--no-network", "--connect", &taken.to_string()], &["bash", "-c", &connect]));
    assert!(!works(&site, &["--no-network", "--connect", &free], &["bash", "-c", &connect]));
    // The system's own Python: another one may be outside the readable directories.
    let python = "/usr/bin/python3";
    if !fs::exists(python).unwrap() {
        skip("there is no /usr/bin/python3");
        return;
    }
    assert!(works(&site, &["--no-network", "--listen", &free], &[python, "-c", &listen]));
    assert!(!works(&site, &["--no-network", "--listen", "1"], &[python, "-c", &listen]));
}

#[test]
fn other_processes_of_the_same_user_are_out_of_reach() {
    let Some(site) = landlock_site() else { return };
    let me = std::process::id().to_string();
    let (probe, look) = (format!("kill -0 {me}"), format!("readlink /proc/{me}/fd/0"));
    for program in [&probe, &look] {
        assert!(!works(&site, &["--read", "/proc"], &["bash", "-c", program]), "{program}");
    }
    // Controls: the same programs outside the sandbox, and their own link inside it.
    assert!(std::process::Command::new("bash").args(["-c", &probe]).status().unwrap().success());
    assert!(std::process::Command::new("bash").args(["-c", &look]).output().unwrap().status.success());
    assert!(works(&site, &["--read", "/proc"], &["bash", "-c", "readlink /proc/self/fd/0"]));
}

/// A script that makes system calls and prints the kernel's answer to each.
const CALLS: &str = include_str!("system_calls.py");

#[test]
fn risky_system_calls_are_refused() {
    let Some(site) = landlock_site() else { return };
    let python = "/usr/bin/python3";
    if !fs::exists(python).unwrap() || !cfg!(target_arch = "x86_64") {
        skip("there is no /usr/bin/python3, or the calls have other numbers here");
        return;
    }
    let answers = |said: &str| -> BTreeMap<String, String> {
        said.lines().filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    };
    let inside = answers(&run_sandboxed(&site, &[], &[python, "-c", CALLS]).ok().stdout);
    let plain = site.command(python).args(["-c", CALLS]).output().unwrap();
    let outside = answers(&String::from_utf8(plain.stdout).unwrap());
    let refused = ["ptrace", "keyctl", "process_vm_readv", "unshare", "clone", "kcmp", "open_tree", "AF_ALG"];
    let unseen: Vec<_> = refused.iter().filter(|call| outside[**call] == "EPERM").collect();
    for call in refused {
        assert_eq!(inside[call], "EPERM", "{call}: {inside:?}");
    }
    assert_eq!((inside["clone3"].as_str(), inside["getpid of x32"].as_str()), ("ENOSYS", "ENOSYS"));
    for call in ["getpid", "AF_INET", "AF_UNIX", "runs"] {
        assert_eq!(inside[call], outside[call], "{call}: {inside:?}");
    }
    // Control: outside the sandbox this host allows these calls, except for a few that it forbids everywhere.
    assert!(unseen.len() <= 3, "{unseen:?}: {outside:?}");
    assert_ne!(outside["clone3"], "ENOSYS");
}

/// In a user namespace the kernel lets every user make the device 0:0.
#[test]
fn virtiofsd_cannot_make_devices() {
    let Some(flags) = namespaces(&["--mount"]) else { return };
    let site = Site::new();
    let ends_well = |words: &[&str], kind: &[&str], file: &str| {
        let (unshare, mknod) = (which("unshare").unwrap(), which("mknod").unwrap());
        let file = site.path(file);
        let mut words: Vec<_> = words.iter().map(std::ffi::OsStr::new).collect();
        words.push(unshare.as_os_str());
        words.extend(flags.iter().map(std::ffi::OsStr::new));
        words.extend([mknod.as_os_str(), file.as_os_str()]);
        words.extend(kind.iter().map(std::ffi::OsStr::new));
        let done = site.command(words[0]).args(&words[1..]).output().unwrap();
        (done.status.success(), String::from_utf8(done.stderr).unwrap())
    };
    let without = [env!("CARGO_BIN_EXE_agent-vm"), "without-devices", "--"];
    for (number, kind) in [["c", "0", "0"].as_slice(), &["b", "0", "0"]].into_iter().enumerate() {
        let (made, said) = ends_well(&without, kind, &format!("device-{number}"));
        assert!(!made && said.contains("not permitted"), "{kind:?}: {said}");
    }
    // Controls: without the filter the device is made; with the filter a fifo is made.
    let (made, said) = ends_well(&[], &["c", "0", "0"], "control");
    assert!(made, "{said}");
    let (made, said) = ends_well(&without, &["p"], "fifo");
    assert!(made, "{said}");
}

#[test]
fn a_missing_program_is_named() {
    let site = Site::new();
    let done = run_sandboxed(&site, &[], &["/no/such/program"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("failed to execute /no/such/program"), "{done:?}");
}
