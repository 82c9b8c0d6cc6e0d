//! The command that fetches what was kept of a workspace into the user's repository.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::guest_files::{MAX_PACKED_REFS, MAX_SHALLOW, is_object_id, open_inside, open_root, read_inside};
use crate::host::files::{open_file, quoted};

/// Largest HEAD that is read, in bytes.
const MAX_HEAD: u64 = 4096;
/// Largest header of a bundle that is read, in bytes.
const MAX_HEADER: u64 = 4 << 20;

/// Returns the command that fetches the branches and tags of a bundle, with `others` also its other references.
#[must_use]
pub fn fetch(bundle: &Path, others: bool) -> String {
    command(bundle, others, "", "")
}

/// `options` and `head` are options and a refspec, each with a space before it.
fn command(kept: &Path, others: bool, options: &str, head: &str) -> String {
    let name = name_of(kept);
    let refspec = |from: &str, to: &str| format!(" {}", quoted(format!("{from}:{to}/rescued/{name}/*").as_ref()));
    let (branches, tags) = (refspec("refs/heads/*", "refs/heads"), refspec("refs/tags/*", "refs/tags"));
    let others = if others { refspec("refs/*", "refs") } else { String::new() };
    format!("git fetch --no-tags{options} {}{branches}{tags}{others}{head}", quoted(kept))
}

/// Returns a name of its own for what is fetched, so that what was fetched before is not in the way. References cannot
/// have two dots in their names.
fn name_of(kept: &Path) -> String {
    let name = kept.file_stem().unwrap_or_default().to_string_lossy();
    gix_validate::reference::name_partial_or_sanitize(name.as_bytes().into()).to_string()
}

/// Returns the command that fetches from a kept bundle or workspace; None if it is neither, or git finds no repository at the
/// workspace's top.
#[must_use]
pub fn fetch_from(kept: &Path) -> Option<String> {
    fetch_from_bundle(kept).or_else(|| fetch_from_kept(kept))
}

/// Returns the command that fetches from a bundle; None if it is none.
fn fetch_from_bundle(kept: &Path) -> Option<String> {
    // gitformat-bundle(5): a line with the version, lines with references, and an empty line.
    let mut lines = BufReader::new(open_file(kept).ok()?.take(MAX_HEADER)).split(b'\n').map_while(Result::ok);
    lines.next().filter(|line| line.starts_with(b"# v") && line.ends_with(b" git bundle"))?;
    let names =
        lines.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with(b"-") && !line.starts_with(b"@"));
    let mut names = names.filter_map(|line| Some(String::from_utf8_lossy(&line).split_once(' ')?.1.to_owned()));
    let is_plain = |name: &str| name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
    let others = names.any(|name| name.starts_with("refs/") && name != "refs/stash" && !is_plain(&name));
    Some(fetch(kept, others))
}

/// Returns the command that fetches from a kept workspace; None if git finds no repository at its top. Git then reads
/// the configuration that agent-vm wrote: see [`super::keep_whole`].
fn fetch_from_kept(kept: &Path) -> Option<String> {
    let root = open_root(kept).ok()?;
    let git_dir = open_inside(&root, Path::new(".git"), OFlags::RDONLY | OFlags::DIRECTORY).ok()??;
    let head = read_inside(&git_dir, Path::new("HEAD"), MAX_HEAD).ok()??;
    // Git refuses a shallow history otherwise.
    let is_shallow = read_inside(&git_dir, Path::new("shallow"), MAX_SHALLOW).is_ok_and(|list| list.is_some());
    let options = if is_shallow { " --update-shallow" } else { "" };
    let head = if is_object_id(head.trim_ascii_end()) {
        let packed =
            read_inside(&git_dir, Path::new("packed-refs"), MAX_PACKED_REFS).ok().flatten().unwrap_or_default();
        let is_taken = |name: &str| {
            let file = format!("refs/heads/{name}");
            let loose = open_inside(&git_dir, Path::new(&file), OFlags::PATH);
            loose.map_or(true, |found| found.is_some()) || String::from_utf8_lossy(&packed).contains(&file)
        };
        let names = (0_u32..).map(|number| match number {
            0 => "agent-vm".to_owned(),
            _ => format!("agent-vm-{number}"),
        });
        let free = names.into_iter().find(|name| !is_taken(name))?;
        format!(" {}", quoted(format!("HEAD:refs/heads/rescued/{}/{free}/detached", name_of(kept)).as_ref()))
    } else {
        String::new()
    };
    Some(command(kept, true, options, &head))
}
