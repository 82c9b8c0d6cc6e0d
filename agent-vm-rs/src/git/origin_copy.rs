//! Makes the copy of the source repository that `origin` of a workspace leads to: a bare repository in the workspace's git
//! directory, so that `git fetch` and `git push` work in the machine without any access to the host.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::call::{NO_SYNC, git, git_in};
use super::url::file_url;
use crate::machine::branch::BranchName;
use crate::machine::policy;

/// Its path in the workspace's git directory.
pub const ORIGIN_COPY: &str = "origin.git";
/// Start of the names of the workspace's references that it copies as branches.
const TRACKED: &str = "refs/remotes/origin/";

/// Makes the copy, with the workspace's objects, tags, and branches of `origin`, and points `origin` to it. It shares
/// the objects' files, which git never changes.
///
/// # Errors
/// The workspace cannot be read or written.
pub fn make(workspace: &Path, branch: &BranchName, scratch: &Path) -> Result<()> {
    let git_dir = workspace.join(".git");
    let copy = git_dir.join(ORIGIN_COPY);
    let inside = || git_in(workspace).args(NO_SYNC).of_machine(scratch);
    let format = inside().args(["rev-parse", "--show-object-format"]).read()?;
    let init = git().args(["init", "--quiet", "--bare", "--template="]).of_machine(scratch);
    // A git without SHA-256 support does not know this flag.
    let init = init.args((format != "sha1").then(|| format!("--object-format={format}")));
    init.arg("--").arg(&copy).checked().context("failed to make the copy for origin")?;
    let list = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/tags", TRACKED];
    let listed = inside().args(list).checked()?.stdout;
    let lines = listed.split(|byte| *byte == b'\n').filter_map(packed_line);
    let fill = || -> io::Result<()> {
        link_objects(&git_dir.join("objects"), &copy.join("objects"))?;
        fs::write(copy.join("packed-refs"), lines.flatten().collect::<Vec<_>>())?;
        fs::write(copy.join("HEAD"), format!("ref: refs/heads/{branch}\n"))?;
        match fs::copy(git_dir.join("shallow"), copy.join("shallow")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    fill().context("failed to fill the copy for origin")?;
    let url = file_url(&policy::workspace().path.join(".git").join(ORIGIN_COPY));
    inside().args(["config", "remote.origin.url", &url]).checked()?;
    // A new branch has no upstream yet.
    inside().args(["config", "push.autoSetupRemote", "true"]).checked().map(drop)
}

/// Returns a line of `packed-refs` for a line of `ID NAME`: tags keep their names, tracked branches become branches.
fn packed_line(line: &[u8]) -> Option<Vec<u8>> {
    let (id, name) = line.split_at_checked(line.iter().position(|byte| *byte == b' ')?)?;
    let name = &name[1..];
    let name = match name.strip_prefix(TRACKED.as_bytes()) {
        Some(b"HEAD") => return None,
        Some(branch) => [b"refs/heads/", branch].concat(),
        None => name.to_vec(),
    };
    Some([id, b" ", &name, b"\n"].concat())
}

/// Links the files of an object store into another one; copies them if the file system has no hard links.
fn link_objects(from: &Path, to: &Path) -> io::Result<()> {
    for part in fs::read_dir(from)? {
        let part = part?;
        if part.file_name() == "info" || !part.file_type()?.is_dir() {
            continue;
        }
        let into = to.join(part.file_name());
        fs::create_dir_all(&into)?;
        for file in fs::read_dir(part.path())? {
            let file = file?;
            let place = into.join(file.file_name());
            if fs::hard_link(file.path(), &place).is_err() {
                fs::copy(file.path(), &place)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_branches_become_branches() {
        let line = |line: &str| packed_line(line.as_bytes()).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(line("1 refs/remotes/origin/a/b").as_deref(), Some("1 refs/heads/a/b\n"));
        assert_eq!(line("2 refs/tags/v1").as_deref(), Some("2 refs/tags/v1\n"));
        assert_eq!(line("3 refs/remotes/origin/HEAD"), None);
        assert_eq!(line(""), None);
    }
}
