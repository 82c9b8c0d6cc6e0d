//! What this process and its children inherit: as few variables and descriptors as they need.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::find::search_path;

/// Variables that every program inherits: paths, user, locale, terminal and time zone. None of them holds a secret.
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
/// Prefix of further variables that every program inherits.
const LOCALE: &str = "LC_";

/// Variables that a detached program inherits.
const OF_A_DAEMON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Variables that point git at a hook's repository: a git hook may have called us.
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

/// Environment variables, by name.
pub(super) type Environment = BTreeMap<OsString, OsString>;

/// Returns our variables whose names `keep` accepts, with [`search_path`] as PATH.
fn ours(keep: impl Fn(&OsStr) -> bool) -> Environment {
    let mut kept: Environment = std::env::vars_os().filter(|(name, _)| keep(name)).collect();
    if let (Some(path), Some(absolute)) = (kept.get_mut(OsStr::new("PATH")), search_path()) {
        *path = absolute;
    }
    kept
}

/// Returns this process's environment for a program that also gets the variables `own`. Without all `GIT_*` variables if
/// `own` sets any of them, otherwise without those that name a repository.
pub(super) fn whole_environment(own: &[(OsString, OsString)]) -> Environment {
    let is_gits = |name: &OsStr| name.as_encoded_bytes().starts_with(b"GIT_");
    let sets_gits = own.iter().any(|(name, _)| is_gits(name));
    ours(|name| if sets_gits { !is_gits(name) } else { !OF_GIT_HOOKS.iter().any(|other| name == *other) })
}

/// Returns our variables that every program inherits.
pub(super) fn small_environment() -> Environment {
    ours(|name| name.to_str().is_some_and(|name| VARIABLES.contains(&name) || name.starts_with(LOCALE)))
}

/// Returns our variables that a detached program inherits.
pub(super) fn daemons_environment() -> Environment {
    ours(|name| OF_A_DAEMON.iter().any(|other| name == *other))
}

/// Restricts what children inherit: marks all descriptors close-on-exec except standard input, output and error and the
/// `sockets` after them. Forbids core dumps (core(5)), which would hold secrets and guest memory. Call it once, before
/// starting any program.
///
/// # Errors
/// The kernel refuses to lower a limit, which it never does.
pub fn restrict_inheritance(sockets: u8) -> Result<()> {
    // Descriptors that we open later are marked close-on-exec by default.
    close_fds::set_fds_cloexec(FIRST + i32::from(sockets), &[]);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("failed to forbid core dumps")
}
