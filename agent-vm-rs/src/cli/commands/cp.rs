//! `agent-vm cp`

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::connected::with_ssh;
use super::fetching::MAX_SIZE;
use crate::host::files::merge::merge;
use crate::host::files::{TEMPORARY, quoted};
use crate::machine::context::Context;
use crate::remote::ssh::{CopyAsk, CopyEnd, LeftOut, copy_in, copy_out};
use crate::term::error::Failure;
use crate::term::output::print_json;
use crate::term::progress::note;
use crate::term::text::count;

/// Flags of `cp`.
#[derive(Args, Clone, Debug)]
pub struct CpArgs {
    /// File or directory to copy; one of the two is MACHINE:PATH, BRANCH:PATH or :PATH in a machine, relative to /workspace
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to copy it: into this directory if it exists, else under this name
    #[arg(value_name = "DST")]
    destination: String,
    /// Largest size of what a machine sends, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MAX_SIZE >> 20, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_size: u64,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Host(&'a Path),
    /// A branch or machine, or else the current branch's, and a path in it.
    Guest(Option<&'a str>, &'a str),
}

impl<'a> Side<'a> {
    /// Returns the side that a word names. A path of this host that has a colon begins with `/` or `.`.
    fn of(word: &'a str) -> Self {
        match word.split_once(':') {
            Some((named, path)) if !word.starts_with(['/', '.']) => {
                Self::Guest(Some(named).filter(|named| !named.is_empty()), if path.is_empty() { "." } else { path })
            }
            _ => Self::Host(Path::new(word)),
        }
    }
}

/// Copies a file or directory between this host and a running machine.
///
/// # Errors
/// Neither or both sides are in a machine, the machine does not answer, or a file cannot be read or written.
pub fn cp(context: &Context, args: &CpArgs) -> Result<()> {
    cp_with(context, args, &Here(context))
}

/// Reaches the machines that copies are about.
pub trait Reach {
    /// Calls `each` with the machine that the user means.
    ///
    /// # Errors
    /// It cannot be reached, or `each` fails.
    fn reach<T>(&self, named: Option<&str>, each: impl FnOnce(&dyn CopyEnd) -> Result<T>) -> Result<T>;
}

/// The machines of this host.
struct Here<'a>(&'a Context);

impl Reach for Here<'_> {
    fn reach<T>(&self, named: Option<&str>, each: impl FnOnce(&dyn CopyEnd) -> Result<T>) -> Result<T> {
        with_ssh(self.0, named, |_, ssh| each(ssh))
    }
}

/// Runs a copy's script in a machine of this host, with our standard input and output, and returns its exit code.
///
/// # Errors
/// The machine is not running, or does not answer.
pub fn pass_on(context: &Context, named: Option<&str>, ask: &CopyAsk) -> Result<i32> {
    with_ssh(context, named, |_, ssh| ssh.call(ask)?.run_attached(|| Ok(())))
}

/// Copies a file or directory between this host and a machine that `machines` reaches.
///
/// # Errors
/// See [`cp`].
pub fn cp_with(context: &Context, args: &CpArgs, machines: &impl Reach) -> Result<()> {
    let (named, left_out) = match (Side::of(&args.source), Side::of(&args.destination)) {
        (Side::Host(source), Side::Guest(named, path)) => {
            let name =
                own_name(source).map(|name| name.to_str().map(str::to_owned).context("a name is not valid UTF-8"));
            let name = name.transpose()?;
            source.metadata().map_err(|error| unreadable(source, &args.source, error))?;
            let special = machines.reach(named, |end| copy_in(end, source, name.as_deref(), path))?;
            if special > 0 {
                let items = count(special, "item");
                note(&format!("notice: {items} not copied: only files, directories and links are"));
            }
            (named, LeftOut { special, git: 0 })
        }
        (Side::Guest(named, path), Side::Host(destination)) => {
            let target = target_of(path, destination)?;
            // Beside the target, so that a finished copy is moved at once. No other user can write there.
            let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let owners = std::fs::Permissions::from_mode(0o700);
            let staging = tempfile::Builder::new().prefix(TEMPORARY).permissions(owners).tempdir_in(parent);
            let staging = staging.with_context(|| format!("failed to create a directory in {}", parent.display()))?;
            let item = staging.path().join("item");
            let left_out = machines.reach(named, |end| copy_out(end, path, &item, args.max_size << 20))?;
            merge(&item, &target)?;
            if left_out.special > 0 {
                let items = count(left_out.special, "item");
                note(&format!("notice: {items} not copied: only files and directories are"));
            }
            (named, left_out)
        }
        (Side::Host(_), Side::Host(_)) => {
            return Err(Failure::usage("neither side of the copy is in a machine")
                .with_hint("write MACHINE:PATH or, for the machine of the current branch, :PATH")
                .into());
        }
        (Side::Guest(..), Side::Guest(..)) => {
            return Err(Failure::usage("both sides of the copy are in machines")
                .with_hint("copy to this host first; a file of this host with a colon begins with ./")
                .into());
        }
    };
    if left_out.git > 0 {
        let fetch = named.map_or_else(|| "agent-vm fetch".to_owned(), |named| format!("agent-vm fetch {named}"));
        note(&format!(
            "notice: git repositories were not copied, because git runs programs that they name; for commits: {fetch}"
        ));
    }
    if context.json {
        print_json(&json!({ "left_out": left_out.special, "left_out_git": left_out.git }))?;
    }
    Ok(())
}

/// Returns the error about a file of this host. If there is none, the word may name a file of a machine.
fn unreadable(path: &Path, word: &str, error: std::io::Error) -> anyhow::Error {
    let failure = Failure::new(format!("failed to read {}", path.display()));
    let failure = match error.kind() {
        std::io::ErrorKind::NotFound => {
            let guest = quoted(Path::new(&format!(":{word}")));
            failure.with_hint(format!(
                "to see what is there: ls -l {}\nto copy it out of a machine: agent-vm cp {guest} .",
                quoted(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))
            ))
        }
        _ => failure,
    };
    anyhow::Error::new(error).context(failure)
}

/// Returns the name under which a path is copied into a directory; None if its contents are, as for `.` and `/`.
fn own_name(path: &Path) -> Option<&std::ffi::OsStr> {
    match path.components().next_back() {
        Some(Component::Normal(name)) if !path.as_os_str().as_encoded_bytes().ends_with(b"/.") => Some(name),
        _ => None,
    }
}

/// Returns where a path of a machine is copied to. A link that the user named is followed, and none below it.
fn target_of(path: &str, destination: &Path) -> Result<PathBuf> {
    let is_dir = destination.is_dir();
    if !is_dir && destination.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Failure::new(format!("{} is not a directory", destination.display()))
            .with_hint("create it first, or leave out the / at the end")
            .into());
    }
    if !is_dir {
        return Ok(destination.to_owned());
    }
    let real =
        std::fs::canonicalize(destination).with_context(|| format!("failed to find {}", destination.display()))?;
    let own = Path::new(path);
    Ok(own_name(own).filter(|name| *name != "~").map_or(real.clone(), |name| real.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_names_a_machine_unless_the_path_begins_with_a_dot_or_slash() {
        assert_eq!(Side::of("main:a/b"), Side::Guest(Some("main"), "a/b"));
        assert_eq!(Side::of("fix/one:"), Side::Guest(Some("fix/one"), "."));
        assert_eq!(Side::of(":/etc/hosts"), Side::Guest(None, "/etc/hosts"));
        for host in ["a/b", "./a:b", "/a:b", "../a:b", "."] {
            assert_eq!(Side::of(host), Side::Host(Path::new(host)), "{host}");
        }
        assert_eq!((own_name(Path::new("a/b/")), own_name(Path::new("a/."))), (Some("b".as_ref()), None));
        assert_eq!((own_name(Path::new("..")), own_name(Path::new("/"))), (None, None));
    }
}
