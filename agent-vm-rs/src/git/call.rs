//! How git is called: the one place that says which configuration and environment a git call of ours has.
//!
//! Neither the user's configuration nor the environment that we were started in reaches git from here: nothing of either
//! may change what a call does. Configuration of a repository that came from elsewhere is never git's configuration; see
//! [`super::standin`].

use std::path::Path;

use crate::host::process::Invocation;

/// Environment of every call. (No program gets `GIT_*` variables of ours, see [`crate::host::process`].)
const ENVIRONMENT: [(&str, &str); 16] = [
    // Messages are compared with git's own words, not with their translation.
    ("LC_ALL", "C"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    // A clone reads from a directory of this host; nothing is fetched from anywhere else, missing objects included.
    ("GIT_ALLOW_PROTOCOL", "file"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    // What is shown is what is there, not what a ref below refs/replace says.
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    // Nothing is written into a repository that is only looked at.
    ("GIT_OPTIONAL_LOCKS", "0"),
    // A path that comes from a repository is a path, not a pattern.
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_DEFAULT_REF_FORMAT", "files"),
    ("GIT_TEMPLATE_DIR", ""),
    ("GIT_PAGER", "cat"),
    ("GIT_ADVICE", "0"),
    // Each arena of the C library reserves address space, by default eight for each processor.
    ("MALLOC_ARENA_MAX", "4"),
];

/// Address space of git, bytes: a hostile repository can make it take much. It is inherited by what git starts.
const MEMORY_LIMIT: u64 = 8 << 30;

/// Configuration of every call: above every file, and for the programs that git starts.
const CONFIGURATION: [&str; 15] = [
    "safe.bareRepository=explicit",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    // Without these two git reads them in the user's configuration directory.
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.pager=cat",
    "color.ui=false",
    "protocol.version=2",
    "submodule.recurse=false",
    // Nothing goes on in the background once a call has ended.
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    // Within the limit, whatever the size of the packs.
    "core.packedGitLimit=1g",
    "pack.windowMemory=256m",
];

/// The other end of a clone or fetch by `file://`: the kernel ends it, and what it packs objects with, with the one that
/// starts it. Git gives neither the configuration of the call.
pub const UPLOAD_PACK: [&str; 2] = [
    "--upload-pack",
    "exec setpriv --pdeathsig KILL -- git -c core.packedGitLimit=1g -c pack.windowMemory=256m \
     -c uploadpack.packObjectsHook='exec setpriv --pdeathsig KILL --' upload-pack",
];

/// Git that reads no configuration but ours and, of the repository it is pointed at, that one's own. It ends with us.
#[must_use]
pub fn git() -> Invocation {
    let git = CONFIGURATION
        .iter()
        .fold(Invocation::new("git").bounded(MEMORY_LIMIT), |git, setting| git.args(["-c", setting]));
    ENVIRONMENT.iter().fold(git, |git, (name, value)| git.env(name, value))
}

/// [`git()`] in the work tree of a repository that we have made.
#[must_use]
pub fn git_in(work_tree: &Path) -> Invocation {
    git().arg("-C").arg(work_tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the user's files and environment say, git answers with what stands above.
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
