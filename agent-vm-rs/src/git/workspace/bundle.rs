//! A bundle of what only a workspace has. It needs no other repository: git fetches from it into an empty one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::findings::Own;
use super::named::Reference;
use super::refs::shown;
use super::trouble::{Unreadable, ask};
use super::view::View;

/// The stash's name.
const STASH: &[u8] = b"refs/stash";
/// Bytes of git's answers about a bundle.
const MAX_OUTPUT: usize = 64 << 20;

impl Own {
    /// Makes the bundle, in a temporary file beside our git directory, and takes it apart to see that all is in it.
    ///
    /// # Errors
    /// [`Unreadable`] if git cannot read all of it; else something failed on the host.
    pub fn bundle(&self) -> Result<PathBuf> {
        let mut wanted = self.worth_keeping();
        wanted.extend(self.name_the_rest(&mut names(&self.references))?);
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

    /// Whether a bundle has references besides branches and tags.
    #[must_use]
    pub fn has_other_references(&self) -> bool {
        let is_other = |reference: &Reference| {
            !reference.name.starts_with(b"refs/heads/") && !reference.name.starts_with(b"refs/tags/")
        };
        self.worth_keeping().iter().any(|reference| is_other(reference) && reference.name != STASH)
    }

    /// References but those that remember a remote's and lead to what the source has.
    fn worth_keeping(&self) -> Vec<Reference> {
        let own: BTreeSet<_> = self.commits.iter().collect();
        let is_worth = |reference: &&Reference| {
            !reference.name.starts_with(b"refs/remotes/")
                || own.contains(&reference.object)
                || reference.kind != "commit"
        };
        self.references.iter().filter(is_worth).cloned().collect()
    }

    /// Branches for what is to be fetched and no branch leads to: `agent-vm/detached`, `agent-vm/stash`, `agent-vm/stash-N`,
    /// `agent-vm/unnamed-N` and `agent-vm/uncommitted`; and tags `agent-vm/unnamed-N`.
    fn name_the_rest(&self, taken: &mut BTreeSet<Vec<u8>>) -> Result<Vec<Reference>> {
        let prefix =
            (0_u32..).map(|number| if number == 0 { "agent-vm".to_owned() } else { format!("agent-vm-{number}") });
        let is_free = |prefix: &String| {
            ["refs/heads/", "refs/tags/"].iter().all(|kind| {
                let (name, below) = (format!("{kind}{prefix}"), format!("{kind}{prefix}/"));
                !taken.iter().any(|taken| *taken == name.as_bytes() || taken.starts_with(below.as_bytes()))
            })
        };
        let prefix = prefix.into_iter().find(is_free).context("every name for a branch is taken")?;
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
            rest.push(named("uncommitted", &self.commit_files()?));
        }
        Ok(rest)
    }

    /// Commits of the workspace's own that none of `reached` leads to, without those that another one leads to.
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

    /// Has git find the references by the names that the bundle gets.
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

/// Gives another name to each reference that has the name of another one's directory, which packed references may: whoever
/// fetches them keeps only one of the two.
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

/// Takes a bundle apart in an empty repository, as a fetch does: whatever it leads to must be in it, under the names wanted.
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
    fs::remove_dir_all(&empty).context("failed to remove a scratch directory")
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
