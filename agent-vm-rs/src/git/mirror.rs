//! The mirror of a repository of another host: a bare repository in the user's data directory, to which that host pushes.
//! Machines are created from it, and it gets what is fetched from them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use super::call::{LONGEST_COPY, git};
use super::url::without_password;
use super::{Source, SourceReader, user};
use crate::host::files::{make_private_dir, remove_any, remove_file, rename_durably, sync_tree};
use crate::host::interrupt::Deadline;
use crate::host::lock::{Lock, lock_beside};
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;
use crate::term::progress;
use crate::term::text::{last_lines, printable};

/// Directory of all mirrors in the user's data directory.
const DIRECTORY: &str = "agent-vm-mirrors";
/// Longest wait for another command that makes the same mirror.
const LONGEST_MAKE: std::time::Duration = std::time::Duration::from_secs(60);
/// Settings of a mirror. No hook and no background process runs there.
const SETTINGS: [(&str, &str); 5] = [
    ("core.hooksPath", "/dev/null"),
    ("gc.auto", "0"),
    ("receive.denyDeleteCurrent", "ignore"),
    // They are the user's own commits, and old ones often have small faults. What a machine adds is checked on its way back.
    ("receive.fsckObjects", "false"),
    ("receive.shallowUpdate", "true"),
];
/// Largest number of settings that another host may send.
const MOST_SETTINGS: usize = 1000;
/// What is pushed.
const PUSHED: [&str; 3] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/remotes/*:refs/remotes/*"];
/// The user's variables with which ssh finds its agent, and asks.
const OF_SSH: [&str; 4] = ["SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY"];

/// HEAD of a mirror in this process: that of the repository of the asking host.
static HEAD: OnceLock<(PathBuf, String)> = OnceLock::new();

/// Returns whether a repository is a mirror.
#[must_use]
pub fn is_mirror(repository: &Path) -> bool {
    repository.ancestors().nth(2).is_some_and(|all| all.ends_with(DIRECTORY))
}

/// Sets HEAD of a mirror for this process: a full reference name, or a commit.
///
/// # Errors
/// It is neither.
pub fn set_head(mirror: &Path, head: &str) -> Result<()> {
    let is_commit = matches!(head.len(), 40 | 64) && head.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_name = head.starts_with("refs/") && gix_validate::reference::name(head.into()).is_ok();
    ensure!(is_commit || is_name, "HEAD of the repository is damaged");
    drop(HEAD.set((mirror.to_owned(), head.to_owned())));
    Ok(())
}

/// Returns what [`set_head`] has set for a repository.
pub(super) fn head_of(dir: &Path) -> Option<&'static str> {
    HEAD.get().filter(|(mirror, _)| mirror == dir).map(|(_, head)| head.as_str())
}

/// Returns the mirror of a repository, which is made if it does not exist.
///
/// # Errors
/// Its name or id would lead elsewhere, or it cannot be written.
pub fn make(data_home: &Path, id: &str, name: &str, objects: &str) -> Result<PathBuf> {
    let is_plain = |text: &str, plain: fn(char) -> bool| {
        (1..=100).contains(&text.len()) && !text.starts_with(['.', '-']) && text.chars().all(plain)
    };
    ensure!(is_plain(id, |c| c.is_ascii_hexdigit()), "the id of the repository is damaged");
    ensure!(
        is_plain(name, |c| c.is_ascii_alphanumeric() || "._-".contains(c)),
        "the name of the repository is damaged"
    );
    ensure!(["sha1", "sha256"].contains(&objects), "the format of the repository is unknown");
    let all = data_home.join(DIRECTORY);
    let (dir, staging) = (all.join(id).join(name), all.join(format!(".new-{id}")));
    if dir.join("HEAD").exists() {
        return Ok(dir);
    }
    make_private_dir(&all.join(id))?;
    let _lock = lock(&dir)?;
    if dir.join("HEAD").exists() {
        return Ok(dir);
    }
    remove_any(&staging)?;
    let init = git().args(["init", "--quiet", "--bare", "--template="]);
    let init = if objects == "sha1" { init } else { init.arg("--object-format=sha256") };
    init.arg("--").arg(&staging).checked().context("failed to make the mirror of the repository")?;
    for (key, value) in SETTINGS {
        config(&staging).args(["--", key, value]).checked()?;
    }
    sync_tree(&staging)?;
    rename_durably(&staging, &dir)?;
    Ok(dir)
}

fn config(mirror: &Path) -> Invocation {
    git().arg("--git-dir").arg(mirror).arg("config")
}

/// Writes settings of remotes and branches into a mirror; others are refused.
///
/// # Errors
/// One is of another kind, or the mirror cannot be written.
pub fn write_settings(mirror: &Path, settings: &[(String, String)]) -> Result<()> {
    let known = Regex::new(r"^(remote\..+\.(url|fetch)|branch\..+\.(remote|merge)|user\.(name|email))$")
        .context("a pattern is wrong")?;
    ensure!(settings.len() <= MOST_SETTINGS, "the repository has too many settings");
    let mut all = BTreeMap::<&str, Vec<&str>>::new();
    for (key, value) in settings {
        ensure!(known.is_match(key), "the setting {key:?} is not for a mirror");
        all.entry(key).or_default().push(value);
    }
    let _lock = lock(mirror)?;
    // Nothing else writes them, so a lock of git is one that a killed command left.
    remove_file(&mirror.join("config.lock"))?;
    for (key, values) in all {
        let lines: String = values.iter().map(|value| format!("{value}\0")).collect();
        if config(mirror).args(["--null", "--get-all", "--", key]).output()?.stdout == lines.as_bytes() {
            continue;
        }
        let mut flag = "--replace-all";
        for value in values {
            config(mirror).args([flag, "--", key]).arg(value).checked()?;
            flag = "--add";
        }
    }
    Ok(())
}

/// Takes the lock of a mirror. It is in the directory of all mirrors.
fn lock(mirror: &Path) -> Result<Lock> {
    let of_id = mirror.parent().context("a mirror is in a directory")?;
    let id = of_id.file_name().context("a mirror's directory has a name")?.to_string_lossy();
    let all = of_id.parent().context("a mirror's directory is in one")?;
    Lock::take(&lock_beside(all, &format!(".lock-{id}")), Deadline::after(LONGEST_MAKE))
}

/// How git reaches a repository of another host.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its URL.
    pub url: String,
    /// The command line of ssh.
    pub ssh: String,
    /// The program there that sends, or receives.
    pub program: String,
    /// The host's name for messages.
    pub host: String,
}

impl Link {
    /// Adds what git needs for this link to a call.
    #[must_use]
    pub fn of(&self, git: Invocation) -> Invocation {
        let git = git.env("GIT_ALLOW_PROTOCOL", "ssh").env("GIT_SSH_COMMAND", &self.ssh).env("GIT_SSH_VARIANT", "ssh");
        let given = OF_SSH.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        given.fold(git, |git, (name, value)| git.env(name, value)).time_limit(LONGEST_COPY)
    }

    /// Returns the error of a call that failed.
    #[must_use]
    pub fn failed(&self, what: &str, stderr: &[u8]) -> Failure {
        let words = last_lines(&printable(&String::from_utf8_lossy(stderr)), 6);
        Failure::new(format!("git could not {what} {}:\n{words}", self.host))
            .with_hint("repeat the command; if that does not help, with --debug")
    }
}

impl Source {
    /// Returns the name of HEAD, or its commit.
    ///
    /// # Errors
    /// HEAD cannot be read.
    pub fn head_text(&self) -> Result<String> {
        Ok(match self.head()? {
            super::Head::Reference(name) => name,
            super::Head::Commit(commit) => commit,
        })
    }

    /// Returns its git directory, which its work trees share.
    #[must_use]
    pub fn git_dir(&self) -> PathBuf {
        self.place.common_dir.clone()
    }

    /// Returns the format of its objects.
    #[must_use]
    pub fn object_format(&self) -> &str {
        &self.format.objects
    }

    /// Returns the settings that a mirror needs so that machines get the branches' upstreams, without passwords, and the user's
    /// name and address.
    ///
    /// # Errors
    /// Git fails.
    pub fn settings_for_mirror(&self, branch: Option<&BranchName>, scratch: &Path) -> Result<Vec<(String, String)>> {
        let of_remotes = self.config.values("remote", "url");
        let urls = of_remotes.map(|(name, url)| (format!("remote.{name}.url"), without_password(url)));
        let fetches = self.config.values("remote", "fetch");
        let fetches = fetches.map(|(name, spec)| (format!("remote.{name}.fetch"), spec.to_owned()));
        let of_branch =
            branch.into_iter().flat_map(|branch| ["remote", "merge"].map(|key| format!("branch.{branch}.{key}")));
        let of_branch = of_branch.filter_map(|key| Some((key.clone(), self.config.get(&key)?.to_owned())));
        let of_user = user::settings(&self.place, &self.config, &self.format, scratch)?;
        let identity = user::identity(&self.config, &of_user).into_iter().map(|(key, value)| (key.to_owned(), value));
        Ok(identity.chain(of_branch).chain(urls).chain(fetches).take(MOST_SETTINGS).collect())
    }

    /// Pushes the branches, tags and remote-tracking branches of this repository to its mirror, and removes those there that
    /// it no longer has. Nothing of the repository's configuration applies.
    ///
    /// # Errors
    /// Git fails.
    pub fn push_to_mirror(&self, link: &Link, scratch: &Path) -> Result<()> {
        let reader = SourceReader::open(self, scratch)?;
        let push = ["push", "--quiet", "--prune", "--no-verify", "--receive-pack", &link.program, "--", &link.url];
        let push = link.of(reader.standin.git()).args(push).args(PUSHED);
        let what = format!("sending commits to {}", link.host);
        let output = progress::step(&what, || push.output())?;
        if output.status.success() { Ok(()) } else { Err(link.failed("send commits to", &output.stderr).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_another_disk_stays_in_place_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (link, elsewhere) = (dir.path().join(DIRECTORY), dir.path().join("elsewhere"));
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        let mirror = make(dir.path(), "0a", "app", "sha1").unwrap();
        write_settings(&mirror, &[("user.name".to_owned(), "x".to_owned())]).unwrap();
        assert!(link.is_symlink() && elsewhere.join("0a/app/HEAD").is_file());
    }

    #[test]
    fn a_mirror_is_made_once_and_takes_only_its_own_settings() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = make(dir.path(), "0a", "app", "sha1").unwrap();
        assert_eq!(make(dir.path(), "0a", "app", "sha1").unwrap(), mirror);
        let settings = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        write_settings(&mirror, &settings("remote.origin.url", "https://host.example/a")).unwrap();
        let read = config(&mirror).args(["--get", "remote.origin.url"]).read().unwrap();
        assert_eq!(read, "https://host.example/a");
        // A setting may have several values, and a killed git may have left its lock.
        std::fs::write(mirror.join("config.lock"), "").unwrap();
        let several: Vec<_> = ["+a:b", "+c:d"].map(|spec| ("remote.origin.fetch".to_owned(), spec.to_owned())).into();
        write_settings(&mirror, &several).unwrap();
        write_settings(&mirror, &several).unwrap();
        assert_eq!(config(&mirror).args(["--get-all", "remote.origin.fetch"]).read().unwrap(), "+a:b\n+c:d");
        for key in ["core.hooksPath", "remote.x.uploadpack", "remote.x.url\ncore.pager", "include.path"] {
            assert!(write_settings(&mirror, &settings(key, "x")).is_err(), "{key}");
        }
        for (id, name) in [("../x", "app"), ("0a", ".."), ("0a", "a/b"), ("", "app"), ("0a", "-x"), ("0a", "a b")] {
            assert!(make(dir.path(), id, name, "sha1").is_err(), "{id} {name}");
        }
    }
}
