//! Calls git. This is the only place that sets the configuration and the environment of a git call.
//!
//! Neither the user's git configuration nor the environment of `agent-vm` reaches git from here, so neither changes
//! what a call does. The configuration of a foreign repository is never used as git's own; see [`super::standin`].

use std::path::Path;
use std::time::Duration;

use crate::host::process::Invocation;

/// Environment of every call. [`crate::host::process`] removes every inherited `GIT_*` variable.
const ENVIRONMENT: [(&str, &str); 16] = [
    // Messages are compared with git's untranslated text.
    ("LC_ALL", "C"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    // A clone reads from a directory of this host. Git never fetches from elsewhere, not even missing objects.
    ("GIT_ALLOW_PROTOCOL", "file"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    // Show the objects themselves, not their replacements below refs/replace.
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    // Do not write into a repository that is only read.
    ("GIT_OPTIONAL_LOCKS", "0"),
    // Paths come from the repository and must not act as patterns.
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_DEFAULT_REF_FORMAT", "files"),
    ("GIT_TEMPLATE_DIR", ""),
    ("GIT_PAGER", "cat"),
    ("GIT_ADVICE", "0"),
    // The C library reserves address space for each arena; by default it makes eight for each processor.
    ("MALLOC_ARENA_MAX", "4"),
];

/// Largest address space of git and of the programs that it starts, in bytes. A hostile repository can make git allocate much.
pub const MEMORY_LIMIT: u64 = 8 << 30;

/// Configuration of every call. `-c` overrides every file and also reaches the programs that git starts.
const CONFIGURATION: [&str; 15] = [
    "safe.bareRepository=explicit",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    // Git would otherwise read these two files from the user's configuration directory.
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.pager=cat",
    "color.ui=false",
    "protocol.version=2",
    "submodule.recurse=false",
    // Git must leave no background process behind.
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    // Keep git within the limit for packs of any size.
    "core.packedGitLimit=1g",
    "pack.windowMemory=256m",
];

/// Options for the other end of a `file://` clone or fetch. The kernel ends it, and the program that packs its objects,
/// when the process that started it ends. Git passes the configuration of the call to neither.
pub const UPLOAD_PACK: [&str; 2] = [
    "--upload-pack",
    "exec setpriv --pdeathsig KILL -- git -c core.packedGitLimit=1g -c pack.windowMemory=256m -c uploadpack.allowFilter=true \
     -c uploadpack.packObjectsHook='exec setpriv --pdeathsig KILL --' upload-pack",
];

/// Longest time for copying a repository's objects.
pub const LONGEST_COPY: Duration = Duration::from_secs(6 * 3600);

/// Git syncs each reference separately, which is slow for many. `create` syncs the whole machine before it renames it
/// into place.
pub const NO_SYNC: [&str; 2] = ["-c", "core.fsync=none"];

/// Returns a git call that reads no configuration but [`CONFIGURATION`] and that of the repository it works in. The kernel
/// ends it when agent-vm ends.
#[must_use]
pub fn git() -> Invocation {
    let git = CONFIGURATION
        .iter()
        .fold(Invocation::new("git").bounded(MEMORY_LIMIT), |git, setting| git.args(["-c", setting]));
    ENVIRONMENT.iter().fold(git, |git, (name, value)| git.env(name, value))
}

/// Returns [`git()`] for the work tree of a repository that agent-vm made.
#[must_use]
pub fn git_in(work_tree: &Path) -> Invocation {
    git().arg("-C").arg(work_tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user's files and environment do not change git's answers.
    #[test]
    fn the_environment_does_not_reach_git() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        std::fs::write(&config, "[core]\n\tpager = evil\n[user]\n\tname = me\n").unwrap();
        let ask = |git: Invocation| {
            let asked = git.args(["config", "--get-regexp", "^(core.pager|user.name)$"]).cwd(dir.path());
            asked.output().unwrap().stdout
        };
        let plain = Invocation::new("git").env("GIT_CONFIG_GLOBAL", &config);
        assert_eq!(ask(plain), b"core.pager evil\nuser.name me\n", "control");
        assert_eq!(ask(git()), b"core.pager cat\n");
    }
}
