//! Programs and features of this host.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};

/// Programs of this host that agent-vm, git and the stand-ins need. Nix, QEMU and the like are always stand-ins.
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
    "script",
    "sed",
    "setpriv",
    "setsid",
    "sh",
    "sleep",
    "sort",
    "ssh",
    "ssh-keygen",
    "stty",
    "tail",
    "touch",
    "tr",
    "true",
    "uname",
    "unshare",
    "wc",
];

/// Returns the path of a program of this host.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    // Debian has some programs only on root's PATH.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Reports this test as skipped to the test runner.
pub fn skip(why: &str) {
    println!("AGENT_VM_SKIP: {why}");
}

/// Returns the arguments of unshare(1) that run a program as root of namespaces of these kinds; None, with the test
/// reported as skipped, if this host does not allow that.
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

/// Asks the kernel for a Landlock ruleset; returns false, with the test reported as skipped, if it makes none.
pub fn landlock() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let made = ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create);
    if made.is_err() {
        skip("this kernel has no Landlock");
    }
    made.is_ok()
}
