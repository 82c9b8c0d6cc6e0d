//! Files that are not as a commit has them, as a commit: what is staged, and on top of it what the work tree holds.

use anyhow::{Context as _, Result};

use super::findings::Own;
use super::trouble::is_unreadable;
use crate::process::Invocation;

/// The message of the commits.
const STAGED: &str = "Staged in the machine, not committed\n";
const CHANGED: &str = "Changed in the machine, not committed\n";

impl Own {
    /// Makes the commit and returns its name. Contents are taken as they are: no filter, no conversion.
    ///
    /// # Errors
    /// A file cannot be read, or git fails.
    pub(super) fn commit_files(&self) -> Result<String> {
        let view = &self.view;
        let tree = view.work_tree().context("there is no work tree")?;
        let text =
            |git: Invocation| -> Result<String> { Ok(String::from_utf8_lossy(&view.ask(&git)?).trim().to_owned()) };
        let head: Vec<_> = view.head.commit.iter().flat_map(|commit| ["-p".to_owned(), commit.clone()]).collect();
        let commit = |tree: &str, parents: &[String], message: &str| {
            let git = view.git(None).args(["commit-tree", "--no-gpg-sign", tree]).args(parents);
            let git = ["AUTHOR", "COMMITTER"].iter().fold(git, |git, who| {
                git.env(format!("GIT_{who}_NAME"), "agent-vm").env(format!("GIT_{who}_EMAIL"), "agent-vm@localhost")
            });
            text(git.stdin(message))
        };
        // Of a merge that is not done nothing is staged.
        let staged = match text(view.git(None).arg("write-tree")) {
            Ok(staged) => Some(commit(&staged, &head, STAGED)?),
            Err(error) if is_unreadable(&error) => None,
            Err(error) => return Err(error),
        };
        let empty_tree = text(view.git(None).args(["hash-object", "-t", "tree", "--stdin"]))?;
        let add = view.git(Some(tree)).args(["-c", "core.autocrlf=false", "-c", "core.bigFileThreshold=1"]);
        let add = add.arg(format!("--attr-source={empty_tree}")).args([
            "update-index",
            "--add",
            "--remove",
            "--replace",
            "-z",
        ]);
        let paths: Vec<u8> = self.files.iter().flat_map(|path| [path.as_slice(), b"\0"].concat()).collect();
        view.ask(&add.arg("--stdin").stdin(paths))?;
        let whole = text(view.git(None).arg("write-tree"))?;
        let parents: Vec<_> =
            head.into_iter().chain(staged.into_iter().flat_map(|commit| ["-p".to_owned(), commit])).collect();
        commit(&whole, &parents, CHANGED)
    }
}
