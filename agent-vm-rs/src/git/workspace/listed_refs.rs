//! Lists the names of commits in a repository: HEAD, references and the stash.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::git_failure::{Unreadable, ask};
use super::guest_files::{MAX_STASH_LOG, is_object_id, read_inside};
use super::head::Head;
use super::refs;
use super::view::{MAX_OUTPUT, View};

/// Largest accepted HEAD, in bytes.
const MAX_HEAD: u64 = 4096;

/// A reference that git lists.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Id of its object.
    pub object: String,
    /// `commit`, `tag`, `tree` or `blob`.
    pub kind: String,
    /// Its full name.
    pub name: Vec<u8>,
}

impl Reference {
    fn of_line(line: &[u8]) -> Option<Self> {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut word = || words.next().map(|word| String::from_utf8_lossy(word).into_owned());
        let (object, kind) = (word()?, word()?);
        Some(Self { object, kind, name: words.next()?.to_vec() })
    }
}

impl View {
    pub(super) fn read_head(&mut self) -> Result<()> {
        if refs::format(&self.guest)? == "reftable" {
            let branch = self.git(None).args(["symbolic-ref", "--quiet", "HEAD"]).output()?;
            let branch = String::from_utf8_lossy(&branch.stdout).trim_end().to_owned();
            let commit = self.git(None).args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).output()?;
            let commit = String::from_utf8_lossy(&commit.stdout).trim_end().to_owned();
            self.head = Head {
                branch: branch.strip_prefix("refs/heads/").and_then(|name| name.parse().ok()),
                commit: is_object_id(commit.as_bytes()).then_some(commit),
            };
            return Ok(());
        }
        let text = read_inside(&self.guest, Path::new("HEAD"), MAX_HEAD);
        let text =
            text.or_else(|error| if error.is::<Unreadable>() { Ok(None) } else { Err(error) })?.unwrap_or_default();
        let text = text.trim_ascii_end();
        let branch = text.strip_prefix(b"ref: ").filter(|name| name.starts_with(b"refs/"));
        if let Some(name) = branch.filter(|name| gix_validate::reference::name((*name).into()).is_ok()) {
            let short = name.strip_prefix(b"refs/heads/").and_then(|name| std::str::from_utf8(name).ok());
            let commit = self.copied.names.get(name).map(|id| String::from_utf8_lossy(id).into_owned());
            self.head = Head { branch: short.and_then(|name| name.parse().ok()), commit };
        } else if is_object_id(text) {
            self.head = Head { branch: None, commit: Some(String::from_utf8_lossy(text).into_owned()) };
        } else {
            self.copied.odd.push("HEAD".to_owned());
            return Ok(());
        }
        fs::write(self.git_dir.path().join("HEAD"), [text, b"\n"].concat()).context("failed to copy HEAD")
    }

    /// Adds the references of the copy that `origin` leads to, below [`refs::OF_COPY`].
    ///
    /// # Errors
    /// [`Unreadable`] if git did not write them.
    pub(super) fn copy_references_of(&mut self, copy: &File) -> Result<()> {
        let found = refs::of_files(copy)?;
        let names =
            found.names.iter().map(|(name, id)| ([refs::OF_COPY, &name[b"refs/".len()..]].concat(), id.clone()));
        let names: Vec<_> = names.collect();
        self.copied.odd.extend(found.odd.iter().map(|odd| format!("{odd} of the copy for origin")));
        let line = |parts: [&[u8]; 4]| [parts.concat(), b"\n".to_vec()].concat();
        if refs::format(&self.guest)? == "reftable" {
            let lines: Vec<u8> = names.iter().flat_map(|(name, id)| line([b"create ", name, b" ", id])).collect();
            self.ask(&self.git(None).args(["update-ref", "--stdin"]).stdin(lines))?;
        } else {
            let lines: Vec<u8> = names.iter().flat_map(|(name, id)| line([id, b" ", name, b""])).collect();
            let packed = fs::OpenOptions::new().append(true).open(self.git_dir.path().join("packed-refs"));
            packed.and_then(|mut file| file.write_all(&lines)).context("failed to copy references")?;
        }
        self.copied.names.extend(names);
        Ok(())
    }

    /// Copies the log of the stash, which alone names all but the newest entry.
    pub(super) fn copy_stash_log(&self) -> Result<()> {
        let log = Path::new("logs/refs/stash");
        let Ok(Some(bytes)) = read_inside(&self.guest, log, MAX_STASH_LOG) else { return Ok(()) };
        let to = self.git_dir.path().join(log);
        to.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&to, bytes))
            .context("failed to copy the log of the stash")
    }

    /// Returns all references that git lists, with the kind and the id of each object.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn named(&self) -> Result<Vec<Reference>> {
        let list = self.git(None).args(["for-each-ref", "--format=%(objectname) %(objecttype) %(refname)"]);
        let output = ask(&list, MAX_OUTPUT)?;
        if let Some(warning) =
            String::from_utf8_lossy(&output.stderr).lines().find_map(|line| line.strip_prefix("warning: "))
        {
            return Err(Unreadable(warning.to_owned()).into());
        }
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let named: Vec<_> = lines.filter_map(Reference::of_line).collect();
        let names: BTreeSet<_> = named.iter().map(|reference| reference.name.clone()).collect();
        match refs::missing(&self.copied, &names).first() {
            Some(missing) => Err(Unreadable(format!("git does not list {missing}")).into()),
            None => Ok(named),
        }
    }

    /// Returns the stash's commits, newest first, without the newest.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn older_stashes(&self) -> Result<Vec<String>> {
        let log = self.git(None).args(["log", "--walk-reflogs", "--format=%H", "refs/stash", "--"]);
        match self.ask(&log) {
            Ok(listed) => Ok(String::from_utf8_lossy(&listed).lines().skip(1).map(str::to_owned).collect()),
            // Without the log, these commits are saved as `unnamed-N`.
            Err(error) if error.is::<Unreadable>() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
