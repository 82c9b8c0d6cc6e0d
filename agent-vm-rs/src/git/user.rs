//! Reads the settings of the user's own git configuration that a machine or a count of changes uses.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::config::{Config, Format};
use super::discover::Place;
use super::standin::StandIn;
use crate::host::process::Invocation;
use crate::host::user_dirs::config_home;
use crate::term::progress::note;

/// Longest time for reading the user's configuration, which may include a file that blocks.
const LONGEST: Duration = Duration::from_secs(20);

const KEYS: &str = "^(user\\.(name|email)|core\\.(excludesfile|autocrlf|eol)|commit\\.gpgsign)$";
const IDENTITY: [&str; 2] = ["user.name", "user.email"];
const WORK_TREE: [&str; 3] = ["core.excludesfile", "core.autocrlf", "core.eol"];

/// Returns the committer's name and address: the repository's setting, else the user's.
pub(super) fn identity(own: &Config, of_user: &Config) -> Vec<(&'static str, String)> {
    let value = |key| own.get(key).or_else(|| of_user.get(key)).filter(|value| !value.is_empty());
    IDENTITY.into_iter().filter_map(|key| Some((key, value(key)?.to_owned()))).collect()
}

/// Returns whether the user signs commits.
pub(super) fn signs(own: &Config, of_user: &Config) -> bool {
    let key = "commit.gpgsign";
    if own.sets(key) { own.is_true(key) } else { of_user.is_true(key) }
}

/// Returns the settings that git uses when it compares files with the index.
pub(super) fn for_work_tree(own: &Config, of_user: &Config) -> Vec<(&'static str, String)> {
    let value = |key: &str| {
        // A repository must not choose which file of the host git reads.
        let own = own.get(key).filter(|_| key != "core.excludesfile");
        own.or_else(|| of_user.get(key)).map(str::to_owned)
    };
    // git-config(1) has this default; agent-vm's calls have none.
    let default = |key: &str| {
        let ignore = config_home().ok().filter(|_| key == "core.excludesfile")?.join("git/ignore");
        ignore.into_os_string().into_string().ok()
    };
    WORK_TREE.into_iter().filter_map(|key| Some((key, value(key).or_else(|| default(key))?))).collect()
}

/// Reads the user's configuration files as git finds them, with the files that they include for this repository
/// (`includeIf`). Git would also read the repository's own file: its entries are dropped, and if it includes other
/// files, git does not read it at all.
pub(super) fn settings(place: &Place, own: &Config, format: &Format, scratch: &Path) -> Result<Config> {
    let standin;
    let git_dir = if own.includes() {
        standin = StandIn::offering(place, format, &[], "ref: refs/heads/none", scratch)?;
        standin.path()
    } else {
        &place.git_dir
    };
    // This call uses the user's configuration, since that is what it reads. `git config` runs no program.
    let ask = Invocation::new("git").with_our_environment().arg("--git-dir").arg(git_dir).args([
        "config",
        "--null",
        "--show-scope",
        "--get-regexp",
    ]);
    let output = ask.arg(KEYS).env("LC_ALL", "C").of_machine(scratch).time_limit(LONGEST).output()?;
    // git-config(1): 1 means that no key matched.
    if !output.status.success() && output.status.code() != Some(1) {
        let words = String::from_utf8_lossy(&output.stderr);
        note(&format!("your git configuration is ignored: {}", crate::term::text::one_line(words.trim())));
        return Ok(Config::default());
    }
    Ok(Config::parse(&of_scopes(&output.stdout)))
}

/// Returns the entries of the user's scopes, without the scope.
fn of_scopes(printed: &[u8]) -> Vec<u8> {
    let mut parts = printed.split(|byte| *byte == 0);
    let mut kept = Vec::new();
    while let (Some(scope), Some(entry)) = (parts.next(), parts.next()) {
        if matches!(scope, b"system" | b"global" | b"command") {
            kept.extend([entry, b"\0"].concat());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_scopes_are_kept() {
        let printed = b"global\0user.name\nme\0local\0user.name\nhostile\0system\0core.eol\nlf\0";
        let kept = Config::parse(&of_scopes(printed));
        assert_eq!((kept.get("user.name"), kept.get("core.eol")), (Some("me"), Some("lf")));
    }
}
