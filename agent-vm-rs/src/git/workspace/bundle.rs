//! Writes a git bundle of what only a workspace has. The bundle is complete: git can fetch it into an empty
//! repository.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::git_failure::{Unreadable, ask};
use super::listed_refs::Reference;
use super::refs::{OF_COPY, shown};
use super::unsaved::Unsaved;
use super::view::View;

/// The reference of the newest stash entry.
const STASH: &[u8] = b"refs/stash";
/// Largest output of one git call about a bundle, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

impl Unsaved {
    /// Writes the bundle to a temporary file in the view's git directory, verifies it and returns its path.
    ///
    /// # Errors
    /// [`Unreadable`] if git cannot read the whole repository; other errors are failures of the host.
    pub fn bundle(&self) -> Result<PathBuf> {
        let mut wanted = self.worth_keeping();
        wanted.extend(self.name_the_rest(None)?);
        let wanted = apart(wanted);
        self.name(&wanted)?;
        let file = self.view.git_dir().join("bundle");
        let head = self.view.head.commit.as_ref().map(|_| b"HEAD".to_vec());
        let list = wanted.iter().map(|reference| &reference.name).chain(head.as_ref());
        let list = list.flat_map(|name| [name.as_slice(), b"\n"].concat()).collect::<Vec<_>>();
        let create = self.view.git(None).args(["bundle", "create", "--quiet"]).arg(&file).arg("--stdin").stdin(list);
        self.view.ask(&create)?;
        verify(&self.view, &file, &wanted)?;
        Ok(file)
    }

    /// Returns whether the bundle has references other than branches and tags.
    #[must_use]
    pub fn has_other_references(&self) -> bool {
        let is_other = |reference: &Reference| {
            !reference.name.starts_with(b"refs/heads/") && !reference.name.starts_with(b"refs/tags/")
        };
        self.worth_keeping().iter().any(|reference| is_other(reference) && reference.name != STASH)
    }

    /// Returns the references to save: all but remote-tracking ones, and those of the copy for origin, whose commits the
    /// source repository has.
    pub(super) fn worth_keeping(&self) -> Vec<Reference> {
        let own: BTreeSet<_> = self.commits.iter().collect();
        let is_worth = |reference: &&Reference| {
            let is_copy = reference.name.starts_with(OF_COPY);
            !(is_copy || reference.name.starts_with(b"refs/remotes/"))
                || own.contains(&reference.object)
                || (reference.kind != "commit" && !(is_copy && self.view.safe.contains(&reference.object)))
        };
        self.references.iter().filter(is_worth).cloned().collect()
    }

    /// Returns names for commits that no branch reaches: branches `agent-vm/detached`, `agent-vm/stash`,
    /// `agent-vm/stash-N`, `agent-vm/unnamed-N` and `agent-vm/uncommitted`, and tags `agent-vm/unnamed-N`. The commit of
    /// uncommitted files has the time `date`, or the current one.
    pub(super) fn name_the_rest(&self, date: Option<&str>) -> Result<Vec<Reference>> {
        let taken = names(&self.references);
        let prefix =
            (0_u32..).map(|number| if number == 0 { "agent-vm".to_owned() } else { format!("agent-vm-{number}") });
        let is_free = |prefix: &String| {
            ["refs/heads/", "refs/tags/"].iter().all(|kind| {
                let (name, below) = (format!("{kind}{prefix}"), format!("{kind}{prefix}/"));
                !taken.iter().any(|taken| *taken == name.as_bytes() || taken.starts_with(below.as_bytes()))
            })
        };
        let prefix = prefix.into_iter().find(is_free).context("no unused branch name is left")?;
        let named = |name: &str, object: &str| Reference {
            object: object.to_owned(),
            kind: "commit".to_owned(),
            name: format!("refs/heads/{prefix}/{name}").into_bytes(),
        };
        let mut rest = Vec::new();
        if let (None, Some(commit)) = (&self.view.head.branch, &self.view.head.commit) {
            rest.push(named("detached", commit));
        }
        if let Some(stash) = self.references.iter().find(|reference| reference.name == STASH) {
            rest.push(named("stash", &stash.object));
            let older = self.view.older_stashes()?;
            let own: BTreeSet<_> = self.commits.iter().collect();
            let older = older.iter().filter(|commit| own.contains(commit)).enumerate();
            rest.extend(older.map(|(number, commit)| named(&format!("stash-{}", number + 1), commit)));
        }
        let reached: String =
            self.references.iter().chain(&rest).map(|reference| format!("^{}\n", reference.object)).collect();
        let unnamed = self.tips_beyond(&reached)?;
        rest.extend(unnamed.iter().enumerate().map(|(number, tip)| named(&format!("unnamed-{}", number + 1), tip)));
        rest.extend(self.tags.iter().enumerate().map(|(number, tag)| Reference {
            object: tag.clone(),
            kind: "tag".to_owned(),
            name: format!("refs/tags/{prefix}/unnamed-{}", number + 1).into_bytes(),
        }));
        if !self.files.is_empty() {
            rest.push(named("uncommitted", &self.view.commit_files(&self.files, date)?));
        }
        Ok(rest)
    }

    /// Returns the workspace's own commits that neither `reached` nor another of them reaches.
    fn tips_beyond(&self, reached: &str) -> Result<Vec<String>> {
        if self.commits.is_empty() {
            return Ok(Vec::new());
        }
        let commits: String = self.commits.iter().map(|commit| format!("{commit}\n")).collect();
        let list = self.view.git(None).args(["rev-list", "--parents", "--stdin"]).stdin(commits + reached);
        let listed = String::from_utf8_lossy(&self.view.ask(&list)?).into_owned();
        let families = || listed.lines().map(|line| line.split(' '));
        let parents: BTreeSet<_> = families().flat_map(|family| family.skip(1)).collect();
        let tips = families().filter_map(|mut family| family.next()).filter(|commit| !parents.contains(commit));
        Ok(tips.map(str::to_owned).collect())
    }

    /// Creates the references that the bundle contains in the view's git directory.
    fn name(&self, wanted: &[Reference]) -> Result<()> {
        let known = names(&self.references);
        let new = wanted.iter().filter(|reference| !known.contains(&reference.name));
        let lines: Vec<u8> = new
            .flat_map(|reference| {
                [b"create ", reference.name.as_slice(), b" ", reference.object.as_bytes(), b"\n"].concat()
            })
            .collect();
        self.view.ask(&self.view.git(None).args(["update-ref", "--stdin"]).stdin(lines)).map(drop)
    }
}

/// Renames references whose name is also a directory of other references. Packed references may have both names, but a
/// fetch would keep only one of them.
fn apart(mut wanted: Vec<Reference>) -> Vec<Reference> {
    let mut taken = names(&wanted);
    let is_directory = |name: &[u8], taken: &BTreeSet<Vec<u8>>| {
        let below = [name, b"/"].concat();
        taken.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
    };
    for reference in &mut wanted {
        if !is_directory(&reference.name, &taken) {
            continue;
        }
        let others = (1_u32..).map(|number| [&reference.name[..], format!("-{number}").as_bytes()].concat());
        let free = others.into_iter().find(|name| !taken.contains(name) && !is_directory(name, &taken));
        reference.name = free.unwrap_or_default();
        taken.insert(reference.name.clone());
    }
    wanted
}

fn names(references: &[Reference]) -> BTreeSet<Vec<u8>> {
    references.iter().map(|reference| reference.name.clone()).collect()
}

/// Unpacks a bundle into an empty repository, as a fetch does, and checks that it has every wanted name and every
/// object they reach.
fn verify(view: &View, bundle: &Path, wanted: &[Reference]) -> Result<()> {
    let empty = view.git_dir().join("empty");
    let init = view.git_in(&empty).args(["init", "--quiet", "--bare", "--template="]);
    let init = if view.store.object_format == "sha1" { init } else { init.arg("--object-format=sha256") };
    ask(&init.arg(&empty), MAX_OUTPUT)?;
    let unbundled = ask(&view.git_in(&empty).args(["bundle", "unbundle"]).arg(bundle), MAX_OUTPUT)?.stdout;
    let lines: BTreeSet<_> = unbundled.split(|byte| *byte == b'\n').collect();
    for reference in wanted {
        let line = [reference.object.as_bytes(), b" ", reference.name.as_slice()].concat();
        if !lines.contains(line.as_slice()) {
            return Err(Unreadable(format!("{} cannot be fetched from a bundle", shown(&reference.name))).into());
        }
    }
    let tips: String = wanted.iter().map(|reference| format!("{}\n", reference.object)).collect();
    let walk = view.git_in(&empty).args(["rev-list", "--objects", "--quiet", "--stdin"]).stdin(tips);
    ask(&walk, MAX_OUTPUT)?;
    fs::remove_dir_all(&empty).context("failed to remove a temporary directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reference_has_the_name_of_anothers_directory() {
        let named = |names: &[&str]| -> Vec<Reference> {
            let of = |name: &&str| Reference {
                object: String::new(),
                kind: "commit".into(),
                name: format!("refs/heads/{name}").into_bytes(),
            };
            names.iter().map(of).collect()
        };
        let apart = |names: &[&str]| -> Vec<String> {
            let names = apart(named(names));
            names.into_iter().map(|one| String::from_utf8(one.name).unwrap().replace("refs/heads/", "")).collect()
        };
        assert_eq!(apart(&["a", "a-1", "a-b", "b/c"]), ["a", "a-1", "a-b", "b/c"]);
        assert_eq!(apart(&["a", "a/b", "a/b/c", "main"]), ["a-1", "a/b-1", "a/b/c", "main"]);
        assert_eq!(apart(&["a", "a-1", "a-2/x", "a/b"]), ["a-3", "a-1", "a-2/x", "a/b"]);
    }
}
