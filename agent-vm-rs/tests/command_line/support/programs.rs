//! Programs of this host, and what it can do.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Programs of this host that the command, git and the stand-ins need. Nix, QEMU and the like are not
/// among them: those are always stand-ins.
pub const NEEDED: &[&str] = &[
    "basename",
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dirname",
    "env",
    "expr",
    "git",
    "grep",
    "head",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mv",
    "prlimit",
    "readlink",
    "rm",
    "sed",
    "setpriv",
    "setsid",
    "sh",
    "sleep",
    "sort",
    "ssh",
    "ssh-keygen",
    "tail",
    "touch",
    "tr",
    "true",
    "uname",
    "unshare",
    "wc",
];

/// Where a program of this host is.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    // Where Debian has programs that only root has on PATH.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Tells the runner why this test shows nothing here.
pub fn skip(why: &str) {
    println!("AGENT_VM_SKIP: {why}");
}

/// The arguments of unshare(1) that give a program namespaces of these kinds, as their root; None, told as a
/// skipped test, if this host gives none.
pub fn namespaces<'a>(kinds: &[&'a str]) -> Option<Vec<&'a str>> {
    let as_user = ["--user", "--map-root-user"].iter().chain(kinds).copied().collect();
    let works = |flags: &Vec<&str>| {
        let mut unshare = Command::new("unshare");
        unshare.args(flags).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        unshare.status().is_ok_and(|status| status.success())
    };
    let found = [as_user, kinds.to_vec()].into_iter().find(works);
    if found.is_none() {
        skip(&format!("this host does not allow unshare {}", kinds.join(" ")));
    }
    found
}
