//! Fetches the submodules of a remote repository into the bare repository of its URL, in git's own layout: `modules/NAME` is
//! the git directory of a submodule. [`submodule_urls`] says what is fetched.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::call::{LONGEST_COPY, git};
use super::gitmodules::{DEEPEST, Entry, MOST, gitlinks, of_commit};
use super::public_address;
use super::remote_call::{Proxy, REMOTE, git_here_for, git_without_rights, redirected};
use super::submodule_urls::{Address, access, resolve};
use super::url::{shown, without_password};
use super::url_source_use::NEW;
use super::url_submodule_dirs::{COMMITS, is_git_dir};
use crate::host::files::{rename_durably, sync_tree};
use crate::host::interrupt::{self, Deadline};
use crate::host::process::Invocation;
use crate::term::progress;
use crate::term::text::one_line;

/// Largest size of what one fetch brings, in bytes.
const MAX_PACK: u64 = 16 << 30;
/// Largest number of redirects that are followed.
const REDIRECTS: usize = 3;

/// Why submodules of a remote repository stay empty, by their path in the workspace.
#[derive(Clone, Debug, Default)]
pub struct Unfetched(pub BTreeMap<String, String>);

/// A fetch of all submodules of a commit.
pub struct Submodules<'a> {
    source: Address,
    secret: Option<&'a str>,
    /// A directory in the file system of the repository, for new ones.
    around: &'a Path,
    scratch: &'a Path,
    deadline: Deadline,
    number: Cell<usize>,
    unfetched: RefCell<Unfetched>,
}

/// A repository with submodules.
struct Level<'a> {
    git_dir: &'a Path,
    url: &'a str,
    commit: &'a str,
    /// Beginning of the paths of its submodules in the workspace.
    shown: String,
    depth: usize,
}

impl Level<'_> {
    fn git(&self) -> Invocation {
        within(self.git_dir)
    }
}

impl<'a> Submodules<'a> {
    /// Fetches the submodules of a commit of the repository at `git_dir`, which was fetched from `url`, and theirs. Returns
    /// which of them stay empty.
    ///
    /// # Errors
    /// The repository cannot be read or written.
    pub fn fetch(
        git_dir: &Path,
        url: &str,
        secret: Option<&'a str>,
        commit: &str,
        around: &'a Path,
        scratch: &'a Path,
    ) -> Result<Unfetched> {
        let level = Level { git_dir, url, commit, shown: String::new(), depth: 0 };
        // A URL that cannot be parsed has nothing beside it.
        let source = match Address::parse(url) {
            Ok(source) => source,
            Err(why) => {
                let entries = of_commit(|| level.git(), commit)?;
                let why = |entry: Entry| (entry.path, format!("the URL of the source is unusual: {why:#}"));
                return Ok(Unfetched(entries.into_iter().map(why).collect()));
            }
        };
        let (number, unfetched) = (Cell::new(0), RefCell::default());
        let all = Self { source, secret, around, scratch, deadline: Deadline::after(LONGEST_COPY), number, unfetched };
        all.of(&level)?;
        Ok(all.unfetched.into_inner())
    }

    fn of(&self, level: &Level<'_>) -> Result<()> {
        let refused = |path: &str, why: &anyhow::Error| {
            let why = one_line(&format!("{why:#}").replace('\n', " "));
            self.unfetched.borrow_mut().0.insert(path.to_owned(), why);
        };
        let entries = match of_commit(|| level.git(), level.commit) {
            Ok(entries) => entries,
            Err(error) => {
                refused(&level.shown, &error);
                return Ok(());
            }
        };
        let wanted = gitlinks(level.git(), &["ls-tree", "-z", "--full-tree", level.commit], &entries)?;
        for entry in &entries {
            let Some(commit) = wanted.get(&entry.path) else { continue };
            let path = format!("{}{}", level.shown, entry.path);
            let (git_dir, url) = match self.one(level, entry, commit, &path) {
                Ok(fetched) => fetched,
                Err(error) => {
                    interrupt::check()?;
                    refused(&path, &error);
                    continue;
                }
            };
            let shown = format!("{path}/");
            self.of(&Level { git_dir: &git_dir, url: &url, commit, shown, depth: level.depth + 1 })?;
        }
        Ok(())
    }

    /// Fetches a submodule, unless its commit is there. Returns its git directory and its URL.
    fn one(&self, level: &Level<'_>, entry: &Entry, commit: &str, path: &str) -> Result<(PathBuf, String)> {
        if let Some(why) = entry.refused {
            bail!("{why}");
        }
        self.number.set(self.number.get() + 1);
        ensure!(self.number.get() <= MOST, "the repository has too many submodules");
        ensure!(level.depth < DEEPEST, "it is nested more than {DEEPEST} submodules deep");
        let Some(url) = &entry.url else { bail!("it has no URL") };
        let url = resolve(level.url, url)?;
        let modules = level.git_dir.join("modules");
        let git_dir = modules.join(&entry.name);
        // Another commit may have had other names.
        let is_inside = git_dir.ancestors().skip(1).take_while(|dir| *dir != modules).any(is_git_dir);
        ensure!(!is_inside, "its git directory would be inside another submodule's");
        if is_git_dir(&git_dir) {
            // Git keeps the objects of a fetch that failed, which may be incomplete.
            if !has(&git_dir, &format!("{COMMITS}{commit}"))? {
                self.bring(&git_dir, &url, commit, path)?;
            }
        } else {
            ensure!(git_dir.symlink_metadata().is_err(), "another submodule has its git directory");
            // A killed command leaves no half repository.
            let new = tempfile::Builder::new().prefix(NEW).tempdir_in(self.around);
            let new = new.context("failed to make a directory for the repository")?;
            let new = new.path().join("new");
            let init = git().args(["init", "--quiet", "--bare", "--template="]);
            let init = init.args((commit.len() == 64).then_some("--object-format=sha256"));
            init.arg("--").arg(&new).checked()?;
            self.bring(&new, &url, commit, path)?;
            sync_tree(&new)?;
            fs::create_dir_all(git_dir.parent().unwrap_or(&modules)).context("failed to make its git directory")?;
            rename_durably(&new, &git_dir)?;
        }
        let own = within(&git_dir).args(["config", "--", "remote.origin.url"]).arg(without_password(&url));
        own.checked()?;
        Ok((git_dir, url))
    }

    /// Brings a commit of the repository at a URL, and its branches, into a git directory.
    fn bring(&self, git_dir: &Path, url: &str, commit: &str, path: &str) -> Result<()> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            ensure!(!self.deadline.passed(), "fetching the other submodules took too long");
            let (call, from) = self.call(&url)?;
            let what = format!("fetching the submodule {path} from {}", shown(&from));
            let fetched = progress::step(&what, || self.try_to_bring(&call, git_dir, commit));
            let Err(error) = fetched else { return Ok(()) };
            interrupt::check()?;
            let next = from.starts_with("https:").then(|| redirected(&call.time_limit(self.deadline.left()))).flatten();
            match next.map(|next| on_host_of(&from, &next)).filter(|next| *next != from) {
                Some(next) => url = next,
                None => return Err(error),
            }
        }
        bail!("its URL redirects too often")
    }

    /// Returns a call of git for a URL, and the URL that is used.
    fn call(&self, url: &str) -> Result<(Invocation, String)> {
        let access = access(&self.source, url)?;
        let secret = self.secret.filter(|_| access.has_secret);
        let call = if access.is_users {
            git_here_for(&access.url, secret, self.scratch)?
        } else {
            let proxy = Proxy::of(&access.url, self.scratch)?;
            let mut addresses = String::new();
            if let Some(elsewhere) = &access.elsewhere {
                let public = public_address::of(&elsewhere.host, proxy.url.is_some())?;
                let public: Vec<_> = public.iter().map(in_url).collect();
                // A name can lead to another address the next time.
                if !public.is_empty() {
                    addresses = format!("{}:{}:{}", elsewhere.host, elsewhere.port, public.join(","));
                }
            }
            git_without_rights(&access.url, secret, &proxy, &addresses, self.scratch)?
        };
        let ceiling = self.scratch.parent().unwrap_or(self.scratch);
        // There may be a repository around the temporary directory.
        Ok((call.cwd(self.scratch).env("GIT_CEILING_DIRECTORIES", ceiling), access.url))
    }

    fn try_to_bring(&self, call: &Invocation, git_dir: &Path, commit: &str) -> Result<()> {
        let fetch = |what: &str| {
            let fetch = call.clone().arg("--git-dir").arg(git_dir).args(["fetch", "--quiet", "--no-write-fetch-head"]);
            let fetch = fetch.args(["--no-recurse-submodules", "--no-tags", REMOTE, what]);
            fetch.writing_at_most(MAX_PACK).time_limit(self.deadline.left()).checked().map(drop)
        };
        fetch("+refs/heads/*:refs/remotes/origin/*")?;
        if !has(git_dir, commit)? {
            fetch(commit).with_context(|| format!("its repository does not have its commit {commit}"))?;
            ensure!(has(git_dir, commit)?, "its repository does not have its commit {commit}");
        }
        within(git_dir).args(["update-ref", &format!("{COMMITS}{commit}"), commit]).checked().map(drop)
    }
}

/// Returns whether a git directory has a commit, by its id or a reference.
fn has(git_dir: &Path, commit: &str) -> Result<bool> {
    let asked = within(git_dir).args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).output()?;
    Ok(asked.status.success())
}

fn within(git_dir: &Path) -> Invocation {
    git().arg("--git-dir").arg(git_dir)
}

/// Returns the URL that a redirect of `from` leads to, which may be only its path.
fn on_host_of(from: &str, to: &str) -> String {
    let is_path = to.starts_with('/') && !to.starts_with("//");
    let host = from.split('/').take(3).collect::<Vec<_>>().join("/");
    if is_path { format!("{host}{to}") } else { to.to_owned() }
}

fn in_url(address: &IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}
