//! Fills a partial clone: its remote has the objects that it left out (`git clone --filter`).
//!
//! Git would fetch them with the repository's configuration, which can name a program. So only the remote's URL is taken
//! from there, and the objects get into a stand-in first. Then they are also copied into the repository, as git would do.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::call::{LONGEST_COPY, MEMORY_LIMIT, UPLOAD_PACK, git};
use super::config::Config;
use super::discover::Place;
use super::install::install;
use super::remote_call::{REMOTE, Transport, git_for, transport};
use super::standin::StandIn;
use super::url::{file_url, local_path, shown};
use super::{Source, examine, links};
use crate::host::files::quoted;
use crate::host::interrupt;
use crate::host::process::Invocation;
use crate::machine::sweep::Scratch;
use crate::term::error::Failure;
use crate::term::progress::{self, note};
use crate::term::text::{count, one_line};

/// Number of objects that are fetched at once; git's own backfill fetches as many.
const AT_ONCE: usize = 50_000;
/// Rounds of fetching: trees first, then what they contain.
const ROUNDS: usize = 10;
/// Largest list of missing objects, in bytes.
const MAX_LIST: usize = 1 << 30;

/// A repository that may lack objects, and a stand-in of it that gets them.
pub struct Partial<'a> {
    /// Its directories.
    pub place: &'a Place,
    /// Its configuration.
    pub config: &'a Config,
    /// A stand-in, whose own store gets the objects.
    pub standin: &'a StandIn,
    /// A directory of the machine for temporary files.
    pub scratch: &'a Path,
}

impl Partial<'_> {
    /// Fetches the objects that `range`, lines of `git rev-list --stdin`, needs and the repository lacks. Does nothing if
    /// the repository is no partial clone.
    ///
    /// # Errors
    /// It has no remote that agent-vm uses, or the remote cannot be reached or does not have the objects.
    pub fn fill(&self, range: &str) -> Result<()> {
        let remotes = self.config.promisors();
        if remotes.is_empty() {
            return Ok(());
        }
        let mut missing = self.missing(range)?;
        let mut why = None;
        for (name, url) in &remotes {
            for _ in 0..ROUNDS {
                if missing.is_empty() {
                    break;
                }
                if let Err(error) = self.fetch(url, &missing) {
                    interrupt::check()?;
                    why = Some(self.incomplete(name, missing.len(), error));
                    break;
                }
                let left = self.missing(range)?;
                if left == missing {
                    why = Some(self.incomplete(name, left.len(), anyhow!("{} does not have them", shown(url))));
                    break;
                }
                missing = left;
            }
        }
        if !missing.is_empty() {
            let name = remotes.first().map_or("origin", |(name, _)| name);
            return Err(why.unwrap_or_else(|| self.incomplete(name, missing.len(), anyhow!("too many rounds"))));
        }
        self.keep()
    }

    fn incomplete(&self, remote: &str, missing: usize, why: anyhow::Error) -> anyhow::Error {
        let dir = self.place.source_dir();
        why.context(
            Failure::new(format!("{} is a partial clone that lacks {}", dir.display(), count(missing, "object")))
                .with_hint(format!(
                    "git -C {} fetch --refetch --no-filter {}",
                    quoted(&dir),
                    quoted(Path::new(&one_line(remote)))
                )),
        )
    }

    /// Returns the ids of the missing objects, as lines.
    fn missing(&self, range: &str) -> Result<Vec<String>> {
        let list = ["rev-list", "--objects", "--missing=print", "--quiet", "--ignore-missing", "--stdin"];
        let list = self.standin.git().args(list).stdin(range).of_machine(self.scratch).time_limit(LONGEST_COPY);
        let what = format!("looking for missing objects in {}", self.place.source_dir().display());
        let printed = progress::step(&what, || list.checked_within(MAX_LIST)).context("failed to list its objects")?;
        let text = String::from_utf8_lossy(&printed.stdout);
        // git-rev-list(1): missing objects are printed with a question mark.
        Ok(text.lines().filter_map(|line| line.strip_prefix('?')).map(str::to_owned).collect())
    }

    /// Fetches objects into the stand-in.
    fn fetch(&self, url: &str, missing: &[String]) -> Result<()> {
        let dir = Scratch::new_in(self.scratch)?;
        let theirs;
        let git = match transport(url) {
            Transport::Https | Transport::Ssh => git_for(url, None, dir.path())?,
            Transport::Local => {
                theirs = self.offered(url)?;
                let url = file_url(theirs.path());
                git().arg("-c").arg(format!("remote.{REMOTE}.url={url}"))
            }
            Transport::Other => bail!("its remote has no https, ssh or file URL: {}", shown(url)),
        };
        let local = transport(url) == Transport::Local;
        let git = git.arg("--git-dir").arg(self.standin.path()).bounded(MEMORY_LIMIT);
        note(&format!(
            "{} is a partial clone; fetching {} from {}",
            self.place.source_dir().display(),
            count(missing.len(), "missing object"),
            shown(url)
        ));
        for (number, some) in missing.chunks(AT_ONCE).enumerate() {
            let what = format!("fetching missing objects ({} of {})", number * AT_ONCE + some.len(), missing.len());
            let call = fetch_call(&git, local).stdin(some.join("\n") + "\n").of_machine(self.scratch);
            progress::step(&what, || call.checked()).with_context(|| format!("failed to fetch from {}", shown(url)))?;
        }
        Ok(())
    }

    /// Returns a stand-in for a remote that is a directory of this host. Git is never pointed at a foreign repository.
    fn offered(&self, url: &str) -> Result<StandIn> {
        let base = self.place.work_tree.as_deref().unwrap_or(&self.place.common_dir);
        let path = base.join(local_path(url));
        let missing = || format!("{} is no repository", path.display());
        // git-fetch(1) also takes a path without `.git`.
        let with_suffix = path.as_os_str().to_owned().into_encoded_bytes();
        let with_suffix = OsString::from_vec([with_suffix.as_slice(), b".git"].concat());
        let path = [path.as_path(), Path::new(&with_suffix)].into_iter().find_map(|path| path.canonicalize().ok());
        let path = path.with_context(missing)?;
        let source = Source::discover(&path)?.with_context(missing)?;
        let place = &source.place;
        let own = [place.work_tree.as_ref(), Some(&place.git_dir), Some(&place.common_dir)];
        // Otherwise it is a directory in a repository.
        ensure!(own.contains(&Some(&path)), missing());
        links::check(place)?;
        // The machine's directory is in the state directory.
        self.scratch.parent().map_or(Ok(()), |state| source.require_own_objects(state))?;
        let refs = examine::list(place, &source.format, self.scratch)?;
        StandIn::offering(place, &source.format, &refs, "ref: refs/heads/none", self.scratch)
    }

    /// Copies the fetched packs into the repository, so that it is complete for later commands too.
    fn keep(&self) -> Result<()> {
        let packs = self.standin.path().join("objects/pack");
        let Ok(entries) = fs::read_dir(&packs) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let Some(name) = name.strip_suffix(".idx") else { continue };
            let objects = self.place.common_dir.join("objects");
            if let Err(error) = install(&packs, name, &["promisor", "pack", "idx"], &objects) {
                interrupt::check()?;
                note(&format!("the fetched objects are not copied into the repository: {error:#}"));
                break;
            }
        }
        Ok(())
    }
}

/// Returns a call that fetches the objects whose ids it reads, without what they lead to: git's own way to fill a partial
/// clone.
fn fetch_call(git: &Invocation, local: bool) -> Invocation {
    let git = git.clone().args(["-c", "fetch.negotiationAlgorithm=noop", "-c", "fetch.unpackLimit=1"]);
    let git = git.arg("-c").arg(format!("remote.{REMOTE}.promisor=true"));
    let git = git.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]);
    let upload_pack: &[&str] = if local { &UPLOAD_PACK } else { &[] };
    git.args(upload_pack).args(["--filter=blob:none", "--stdin", REMOTE]).time_limit(LONGEST_COPY)
}
