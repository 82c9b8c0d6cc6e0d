//! Opens a kept bundle: git unpacks it into a temporary git directory. The guest chose its objects and names.

use std::fs;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::findings::reader_of;
use super::git_failure::{Unreadable, is_unreadable};
use super::guest_files::is_object_id;
use super::listed_refs::Reference;
use super::view::View;
use crate::git::Source;
use crate::host::files::open_file;
use crate::machine::sweep::Scratch;

/// Largest header that is read, in bytes: about a million references.
const MAX_HEADER: u64 = 64 << 20;

/// The header of a bundle: gitformat-bundle(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its references: full names and ids.
    pub references: Vec<(Vec<u8>, String)>,
    /// Commits that a repository must have to unpack it.
    pub required: Vec<String>,
    is_sha256: bool,
}

/// Reads the header of a bundle.
///
/// # Errors
/// It cannot be read. [`Unreadable`] if it is no bundle.
pub fn header(bundle: &Path) -> Result<Header> {
    let failed = || format!("failed to read {}", bundle.display());
    // Opening a pipe would block.
    let file = open_file(bundle).with_context(failed)?;
    parse(BufReader::new(file.take(MAX_HEADER))).with_context(failed)
}

fn parse(mut lines: impl std::io::BufRead) -> Result<Header> {
    let odd = || Unreadable("it is not a git bundle".to_owned());
    let mut line = Vec::new();
    let mut next = |line: &mut Vec<u8>| -> Result<()> {
        line.clear();
        lines.read_until(b'\n', line)?;
        // A header ends with an empty line, so the file does not end in it.
        Ok(line.pop().filter(|last| *last == b'\n').map(drop).ok_or_else(odd)?)
    };
    next(&mut line)?;
    if !matches!(line.as_slice(), b"# v2 git bundle" | b"# v3 git bundle") {
        return Err(odd().into());
    }
    let mut header = Header::default();
    loop {
        next(&mut line)?;
        if line.is_empty() {
            return Ok(header);
        }
        if let Some(capability) = line.strip_prefix(b"@") {
            header.is_sha256 |= capability == b"object-format=sha256";
            continue;
        }
        let (is_required, rest) = line.strip_prefix(b"-").map_or((false, line.as_slice()), |rest| (true, rest));
        let (id, name) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
        if !is_object_id(id) {
            return Err(odd().into());
        }
        let id = String::from_utf8_lossy(id).into_owned();
        match name.strip_prefix(b" ") {
            _ if is_required => header.required.push(id),
            Some(name) if name.starts_with(b"refs/") => header.references.push((name.to_vec(), id)),
            // HEAD, which leads to one of the others.
            _ => {}
        }
    }
}

/// An unpacked bundle.
pub struct Unbundled {
    /// A repository with its objects.
    pub view: View,
    /// Its references, without their kinds.
    pub references: Vec<Reference>,
    /// The workspace of the view, which is empty.
    pub workspace: Scratch,
}

/// Unpacks a bundle.
///
/// # Errors
/// [`Unreadable`] if git cannot unpack it, for example because it needs commits that no one has.
pub fn open(bundle: &Path, source: Option<&Source>, scratch: &Path) -> Result<Unbundled> {
    let header = header(bundle)?;
    let workspace = Scratch::new_in(scratch)?;
    let git_dir = workspace.path().join(".git");
    let make = || -> std::io::Result<()> {
        fs::create_dir_all(git_dir.join("objects"))?;
        fs::create_dir(git_dir.join("refs"))?;
        fs::write(git_dir.join("HEAD"), "ref: refs/heads/none\n")
    };
    make().context("failed to make an empty repository")?;
    let format = if header.is_sha256 { "sha256" } else { "sha1" };
    let mut view = View::open_empty(workspace.path(), format, reader_of(source, scratch)?.as_ref(), scratch)?;
    view.allow(bundle);
    let unbundle = view.git(None).args(["bundle", "unbundle"]).arg(bundle);
    view.ask(&unbundle).map_err(|error| match header.required.first() {
        Some(first) if is_unreadable(&error) => anyhow::Error::new(Unreadable(format!(
            "it needs {} commits of the repository that it was made from, such as {first}, which are missing now",
            header.required.len()
        ))),
        _ => error,
    })?;
    let reference = |(name, object)| Reference { object, kind: String::new(), name };
    Ok(Unbundled { view, references: header.references.into_iter().map(reference).collect(), workspace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_other_files_refused() {
        let id = "1".repeat(40);
        let text = format!("# v2 git bundle\n-{id} subject\n{id} refs/heads/a b\n{id} HEAD\n\nPACK");
        let found = parse(text.as_bytes()).unwrap();
        assert_eq!(found.references, [(b"refs/heads/a b".to_vec(), id.clone())]);
        assert_eq!(found.required, std::slice::from_ref(&id));
        let sha256 = format!("# v3 git bundle\n@object-format=sha256\n{} refs/x\n\n", "2".repeat(64));
        assert!(parse(sha256.as_bytes()).unwrap().is_sha256);
        for wrong in ["", "PACK", "# v2 git bundle\n", "# v2 git bundle\nx refs/heads/a\n\n", "# v9 git bundle\n\n"] {
            assert!(is_unreadable(&parse(wrong.as_bytes()).unwrap_err()), "{wrong:?}");
        }
    }
}
