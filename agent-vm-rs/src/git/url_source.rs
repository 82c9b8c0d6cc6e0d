//! The source repository of machines that are created from a URL: a bare repository in the user's data directory, which
//! `agent-vm` fetches. Machines of one URL share it. Every command uses it like a repository of the user.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use sha2::{Digest as _, Sha256};

use super::Source;
use super::call::{LONGEST_COPY, git};
use super::remote_call::{REMOTE, Transport, git_for, transport};
use super::url::{local_path, shown, without_password};
use crate::host::files::{make_private_dir, quoted, rename_durably, sync_tree};
use crate::host::hex::hex;
use crate::host::process::Invocation;
use crate::machine::branch::BranchName;
use crate::term::error::Failure;
use crate::term::progress;
use crate::term::text::one_line;

/// Directory of the repositories, in the user's data directory.
pub const DIRECTORY: &str = "agent-vm-sources";
/// Hexadecimal digits of a URL's hash.
const DIGITS: usize = 12;

/// A remote repository, and how to reach it.
pub struct Remote<'a> {
    url: &'a str,
    secret: Option<&'a str>,
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

    /// Fetches the remote repository into its bare repository below `data`, and returns that with the branch to use: `branch`,
    /// or else the remote's default branch.
    ///
    /// # Errors
    /// The remote cannot be reached, has no commit, or the bare repository cannot be written.
    pub fn source(&self, data: &Path, branch: Option<&str>) -> Result<(Source, BranchName)> {
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
        let list = remote.clone().args(["ls-remote", "--quiet", "--symref", REMOTE, "HEAD"]);
        let head = progress::step(&format!("asking {}", shown(self.url)), || list.read()).with_context(failed)?;
        let (default, is_sha256) = parse_head(&head).ok_or_else(|| {
            Failure::new(format!("{} has no commit yet", shown(self.url)))
                .with_hint("push a first commit, then repeat the command")
        })?;
        let fetch = |dir: &Path| {
            let fetch = remote.clone().arg("--git-dir").arg(dir).args(["fetch", "--quiet", "--no-write-fetch-head"]);
            let fetch =
                fetch.args(["--no-recurse-submodules", "--prune", REMOTE, "+refs/heads/*:refs/remotes/origin/*"]);
            let what = format!("fetching {}", shown(self.url));
            progress::step(&what, || fetch.arg("refs/tags/*:refs/tags/*").checked()).with_context(failed).map(drop)
        };
        if dir.exists() {
            fetch(&dir)?;
        } else {
            // A killed command leaves no half repository.
            let new = tempfile::tempdir_in(around).context("failed to make a directory for the repository")?;
            let path = new.path().join("new");
            make(&path, &plain(self.url), is_sha256)?;
            fetch(&path)?;
            sync_tree(&path)?;
            // Another command may have made it meanwhile, which has the same.
            match rename_durably(&path, &dir) {
                Err(_) if dir.exists() => fetch(&dir)?,
                renamed => renamed?,
            }
        }
        let branch: BranchName = branch.unwrap_or(&default).parse()?;
        let source = Source::discover(&dir.canonicalize().context("failed to find the repository")?)?;
        let source = source.ok_or_else(|| anyhow!("{} is no repository", dir.display()))?;
        set_head(&dir, &default)?;
        set_branch(&dir, &branch)?;
        // Its configuration has changed.
        Ok((Source::discover(&source.dir)?.unwrap_or(source), branch))
    }
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

fn set_head(dir: &Path, default: &str) -> Result<()> {
    let remote = format!("refs/remotes/origin/{default}");
    within(dir).args(["symbolic-ref", "refs/remotes/origin/HEAD", &remote]).checked()?;
    within(dir).args(["symbolic-ref", "HEAD", &format!("refs/heads/{default}")]).checked()?;
    Ok(())
}

/// Creates the local branch that follows the remote's, or moves it to the remote's newer commit.
fn set_branch(dir: &Path, branch: &BranchName) -> Result<()> {
    let (own, remote) = (format!("refs/heads/{branch}"), format!("refs/remotes/origin/{branch}"));
    let commit = |name: &str| -> Result<Option<String>> {
        let output = within(dir).args(["rev-parse", "--verify", "--quiet", name]).output()?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(output.status.success().then_some(id))
    };
    let Some(new) = commit(&remote)? else { return Ok(()) };
    let old = commit(&own)?;
    if let Some(old) = &old {
        // A work tree of the user may have it checked out.
        let is_behind = within(dir).args(["merge-base", "--is-ancestor", old, &new]).output()?.status.success();
        if !is_behind || dir.join("worktrees").exists() {
            return Ok(());
        }
    }
    within(dir).args(["update-ref", &own, &new, old.as_deref().unwrap_or("")]).checked()?;
    for (key, value) in [("remote", "origin"), ("merge", own.as_str())] {
        within(dir).args(["config", "--", &format!("branch.{branch}.{key}"), value]).checked()?;
    }
    Ok(())
}

/// Returns the branch that HEAD leads to, and whether ids are SHA-256: from `ref: refs/heads/NAME<TAB>HEAD` and `ID<TAB>HEAD`.
fn parse_head(printed: &str) -> Option<(String, bool)> {
    let name = printed.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"));
    let id = printed.lines().find_map(|line| line.strip_suffix("\tHEAD").filter(|id| !id.contains(':')))?;
    Some((name?.to_owned(), id.len() == 64))
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

    #[test]
    fn the_default_branch_is_read() {
        let id = "1".repeat(40);
        let printed = format!("ref: refs/heads/a/b\tHEAD\n{id}\tHEAD\n");
        assert_eq!(parse_head(&printed), Some(("a/b".to_owned(), false)));
        assert_eq!(parse_head(&format!("{id}\tHEAD\n")), None);
        assert_eq!(parse_head(""), None);
    }
}
