//! What this process has from whoever started it, and what the programs that it starts have of that: as little as they need.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Variables that every program gets: where programs and files are, whose they are, and how text and time are written. None
/// of them holds a secret.
const VARIABLES: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LOCALE_ARCHIVE",
    "TERM",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];
/// The first descriptor after standard input, output and error.
pub(super) const FIRST: i32 = 3;
/// Prefix of more of these.
const LOCALE: &str = "LC_";

/// What a program that outlives us gets.
const OF_A_DAEMON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Variables by which a git hook (which may have called us) points git at its own repository.
const OF_GIT_HOOKS: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

/// An environment, by name.
pub(super) type Environment = BTreeMap<OsString, OsString>;

/// The variables of ours whose names `keep` accepts.
fn ours(keep: impl Fn(&OsStr) -> bool) -> Environment {
    std::env::vars_os().filter(|(name, _)| keep(name)).collect()
}

/// All of ours, for a program that gets `own` besides: one that is told anything of git's is told no more of that, every other
/// keeps what the user has set for the git that it may run, but no pointer to a repository.
pub(super) fn whole_environment(own: &[(OsString, OsString)]) -> Environment {
    let is_gits = |name: &OsStr| name.as_encoded_bytes().starts_with(b"GIT_");
    let tells = own.iter().any(|(name, _)| is_gits(name));
    ours(|name| if tells { !is_gits(name) } else { !OF_GIT_HOOKS.iter().any(|other| name == *other) })
}

/// What every program gets of ours.
pub(super) fn small_environment() -> Environment {
    ours(|name| name.to_str().is_some_and(|name| VARIABLES.contains(&name) || name.starts_with(LOCALE)))
}

/// What a program that outlives us gets of ours.
pub(super) fn daemons_environment() -> Environment {
    ours(|name| OF_A_DAEMON.iter().any(|other| name == *other))
}

/// Keeps from all programs that we start the descriptors which we were started with, but standard input, output and error and the
/// `sockets` after these; and has neither them nor us leave an image of memory behind (core(5)), which holds secrets and
/// the guest's memory. To be called once, before any program is started.
///
/// # Errors
/// The kernel refuses to lower a limit, which it does not.
pub fn give_up_what_is_not_needed(sockets: u8) -> Result<()> {
    // What we open ourselves is marked so from the beginning.
    close_fds::set_fds_cloexec(FIRST + i32::from(sockets), &[]);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("failed to forbid core dumps")
}
