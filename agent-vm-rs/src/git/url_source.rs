//! The source repository of machines that are created from a URL: a bare repository in the user's data directory, which
//! `agent-vm` fetches. Machines of one URL share it. Every command uses it like a repository of the user.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use sha2::{Digest as _, Sha256};

use super::Source;
use super::call::{LONGEST_COPY, git};
use super::remote_call::{REMOTE, Transport, git_for, transport};
use super::stale_locks::Killed;
use super::url::{local_path, shown, without_password};
use super::url_branches::{set_branch, set_head, start};
use super::url_refs::{FETCHED, Heads, follow_tags};
use super::url_source_use::{DIRECTORY, InUse, LOCK, NEW};
use super::url_submodule_dirs::git_dirs;
use super::url_submodules::{Submodules, Unfetched};
use crate::host::files::{make_private_dir, quoted, remove_any, rename_durably, sync_tree, write_file};
use crate::host::hex::hex;
use crate::host::interrupt::Deadline;
use crate::host::lock::{Lock, lock_beside};
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::machine::state_dir::StateDir;
use crate::term::error::Failure;
use crate::term::progress;
use crate::term::text::one_line;

/// Hexadecimal digits of a URL's hash.
const DIGITS: usize = 12;
/// Locks that git takes in the git directory.
const LOCKS: [&str; 5] = ["HEAD.lock", "config.lock", "packed-refs.lock", "packed-refs.new", "shallow.lock"];

/// A remote repository, and how to reach it.
pub struct Remote<'a> {
    url: &'a str,
    secret: Option<&'a str>,
}

/// What was fetched.
pub struct Fetched {
    /// The bare repository.
    pub source: Source,
    /// The branch to use.
    pub branch: BranchName,
    /// Submodules that stay empty.
    pub unfetched: Unfetched,
    /// While it lives, nobody removes the repository.
    pub _in_use: InUse,
}

impl<'a> Remote<'a> {
    /// Returns the remote of a URL. `secret` is a token for its host.
    ///
    /// # Errors
    /// It is no https or ssh URL, or it contains a password, which would be in the arguments of agent-vm.
    pub fn new(url: &'a str, secret: Option<&'a str>) -> Result<Self> {
        match transport(url) {
            Transport::Https if has_password(url) => {
                Err(Failure::usage(format!("the URL {} contains a password, which other users can see", shown(url)))
                    .with_hint("pass it as a variable: --secret TOKEN=HOST")
                    .into())
            }
            Transport::Https | Transport::Ssh => Ok(Self { url, secret }),
            Transport::Local if local_path(url).is_file() => {
                let file = quoted(&local_path(url));
                Err(Failure::usage(format!("--from needs the URL of a remote repository, and {} is a file", shown(url)))
                    .with_hint(format!(
                        "if it is a bundle, clone it, and create the machine in the clone: git clone {file} DIRECTORY && cd DIRECTORY && agent-vm create"
                    ))
                    .into())
            }
            Transport::Local if local_path(url).exists() => {
                let dir = quoted(&local_path(url));
                Err(Failure::usage(format!(
                    "--from needs the URL of a remote repository, and {} is a directory",
                    shown(url)
                ))
                .with_hint(format!("create the machine in it: cd {dir} && agent-vm create"))
                .into())
            }
            Transport::Local | Transport::Other => {
                Err(Failure::usage(format!("{:?} is neither an https nor an ssh URL", shown(url)))
                    .with_hint("name a remote repository: agent-vm create --from https://HOST/REPOSITORY.git")
                    .into())
            }
        }
    }

    /// Returns the host and port of an https URL, which may get a secret.
    #[must_use]
    pub fn https_host(url: &str) -> Option<(String, u16)> {
        let rest = url.split_once("://").filter(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))?.1;
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => Some((host.to_ascii_lowercase(), port.parse().ok()?)),
            None => Some((host.to_ascii_lowercase(), 443)),
        }
    }

    /// Fetches the remote repository into its bare repository below `data`, with the submodules of the branch to use: `branch`,
    /// or else the remote's default branch.
    ///
    /// # Errors
    /// The remote cannot be reached, has no commit, or the bare repository cannot be written.
    pub fn source(&self, data: &Path, state: &StateDir, branch: Option<&str>) -> Result<Fetched> {
        let dir = data.join(DIRECTORY).join(hash(&plain(self.url))).join(format!("{}.git", name_of(self.url)));
        let around = dir.parent().unwrap_or(data);
        make_private_dir(&data.join(DIRECTORY))?;
        make_private_dir(around)?;
        let scratch = tempfile::tempdir().context("failed to make a temporary directory")?;
        let remote = git_for(self.url, self.secret, scratch.path())?.cwd(scratch.path()).time_limit(LONGEST_COPY);
        // There may be a repository around the temporary directory.
        let remote = remote.env("GIT_CEILING_DIRECTORIES", scratch.path().parent().unwrap_or(scratch.path()));
        let failed = || {
            Failure::new(format!("failed to fetch from {}", shown(self.url))).with_hint(format!(
                "see whether git reaches it: git ls-remote {}\nwith a token in a variable: --secret TOKEN=HOST",
                quoted(Path::new(&plain(self.url)))
            ))
        };
        let list = remote.clone().args(["ls-remote", "--quiet", "--symref", REMOTE, "HEAD", "refs/heads/*"]);
        let list = progress::step(&format!("asking {}", shown(self.url)), || list.read()).with_context(failed)?;
        let no_commit = |hint: &str| Failure::new(format!("{} has no commit yet", shown(self.url))).with_hint(hint);
        let heads = Heads::parse(&list).ok_or_else(|| no_commit("push a first commit, then repeat the command"))?;
        let default = heads.default.as_deref().or(branch).ok_or_else(|| {
            no_commit("HEAD of the remote repository leads to no commit; name a branch: --branch BRANCH")
        })?;
        let fetch = |dir: &Path| {
            let fetch = remote.clone().arg("--git-dir").arg(dir).args(["fetch", "--quiet", "--no-write-fetch-head"]);
            let fetch = fetch.args(["--no-recurse-submodules", "--no-tags", "--prune", REMOTE]);
            let fetch = fetch.arg("+refs/heads/*:refs/remotes/origin/*").arg(format!("+refs/tags/*:{FETCHED}*"));
            let what = format!("fetching {}", shown(self.url));
            progress::step(&what, || fetch.checked()).with_context(failed)?;
            follow_tags(dir)
        };
        let _fetching = Fetching::begin(around, &dir)?;
        let in_use = InUse::begin(around, state)?;
        if dir.symlink_metadata().is_ok() {
            require_repository(&dir)?;
            fetch(&dir)?;
        } else {
            // A killed command leaves no half repository.
            let new = tempfile::Builder::new().prefix(NEW).tempdir_in(around);
            let new = new.context("failed to make a directory for the repository")?;
            let path = new.path().join("new");
            make(&path, &plain(self.url), heads.is_sha256)?;
            fetch(&path)?;
            sync_tree(&path)?;
            rename_durably(&path, &dir)?;
        }
        let branch: BranchName = branch.unwrap_or(default).parse()?;
        let source = Source::discover(&dir.canonicalize().context("failed to find the repository")?)?;
        let source = source.ok_or_else(|| anyhow!("{} is no repository", dir.display()))?;
        set_head(&dir, default)?;
        // A branch that the remote lacks starts there.
        if let Ok(default) = default.parse() {
            set_branch(&dir, &default)?;
        }
        set_branch(&dir, &branch)?;
        let commit = start(&dir, &branch)?;
        let unfetched = Submodules::fetch(&dir, self.url, self.secret, &commit, around, scratch.path())?;
        // Its configuration has changed.
        let source = Source::discover(&source.dir)?.unwrap_or(source);
        Ok(Fetched { source, branch, unfetched, _in_use: in_use })
    }
}

/// The right to write into the repository of a URL: one command at a time. The marker in the directory around it stays if the
/// command is killed.
struct Fetching {
    marker: PathBuf,
    _lock: Lock,
}

impl Fetching {
    /// Waits for other commands, and removes what a killed one left.
    fn begin(around: &Path, dir: &Path) -> Result<Self> {
        let lock = Lock::take(&lock_beside(around, LOCK), Deadline::after(LONGEST_COPY))?;
        let marker = around.join("fetching");
        if let Ok(since) = marker.symlink_metadata().and_then(|found| found.modified()) {
            for git_dir in iter::once(dir.to_owned()).chain(git_dirs(dir)) {
                let git_dir = git_dir.as_path();
                let killed = Killed { git_dir, dirs: &["refs"], locks: &LOCKS, since, longest: LONGEST_COPY };
                killed.remove_locks().context("failed to remove the locks of a killed command")?;
            }
        }
        for entry in fs::read_dir(around).with_context(|| format!("failed to list {}", around.display()))?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) {
                remove_any(&entry.path())?;
            }
        }
        write_file(&marker, "", 0o600)?;
        Ok(Self { marker, _lock: lock })
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.marker));
    }
}

/// Fails if a path is no bare repository.
fn require_repository(dir: &Path) -> Result<()> {
    let is_one = within(dir).args(["rev-parse", "--git-dir"]).output()?.status.success();
    if is_one {
        return Ok(());
    }
    let (shown, quoted, aside) = (dir.display(), quoted(dir), quoted(&dir.with_extension("damaged")));
    Err(Failure::new(format!("{shown} is damaged: git does not take it for a repository"))
        .with_hint(format!("move it away, and repeat the command: mv {quoted} {aside}"))
        .into())
}

/// Makes an empty bare repository whose `origin` is a URL.
fn make(dir: &Path, url: &str, is_sha256: bool) -> Result<()> {
    let init = git().args(["init", "--quiet", "--bare", "--template="]);
    init.args(is_sha256.then_some("--object-format=sha256")).arg("--").arg(dir).checked()?;
    for (key, value) in [("remote.origin.url", url), ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")] {
        within(dir).args(["config", "--", key, value]).checked()?;
    }
    Ok(())
}

fn within(dir: &Path) -> Invocation {
    git().arg("--git-dir").arg(dir)
}

fn plain(url: &str) -> String {
    if transport(url) == Transport::Https { without_user(url) } else { without_password(url) }
}

fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(rest));
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn hash(url: &str) -> PathBuf {
    let url = url.trim_end_matches('/');
    hex(&Sha256::digest(url.strip_suffix(".git").unwrap_or(url))[..DIGITS / 2]).into()
}

/// Returns the last part of a URL, as a part of a path.
fn name_of(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url).trim_end_matches('/');
    let last = url.rsplit(['/', ':']).next().unwrap_or(url);
    let last = one_line(last.strip_suffix(".git").unwrap_or(last));
    let name: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '-']).chars().take(100).collect::<String>();
    if name.is_empty() { "repository".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_name_and_a_place() {
        for (url, name) in [
            ("https://host.example/o/app.git", "app"),
            ("https://host.example/o/app/", "app"),
            ("git@host.example:app.git", "app"),
            ("ssh://host.example/~/a b", "a-b"),
            ("https://host.example/..", "repository"),
            ("https://host.example/x/.git", "repository"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
        assert_eq!(hash("https://host.example/app.git"), hash("https://host.example/app/"));
        assert_ne!(hash("https://host.example/app"), hash("https://host.example/other"));
        assert_eq!(plain("https://me@host.example/app"), "https://host.example/app");
        assert_eq!(Remote::https_host("https://me@Host.example:8443/x"), Some(("host.example".to_owned(), 8443)));
        assert_eq!(Remote::https_host("https://host.example"), Some(("host.example".to_owned(), 443)));
        assert_eq!(Remote::https_host("ssh://host.example/x"), None);
    }
}
