//! Fills a new machine's directory: the clone of its branch, files that a clone does not have, and keys.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::egress;
use crate::git::url_submodules::Unfetched;
use crate::git::{Look, Source};
use crate::host::files::make_private_dir;
use crate::host::interrupt;
use crate::machine::branch::BranchName;
use crate::machine::egress_settings::SecretSpec;
use crate::machine::paths::MachinePath;
use crate::term::progress::note;
use crate::term::text;
use crate::vm::credentials;

/// Files to copy that a clone does not have.
#[derive(Args, Clone, Debug, Default)]
pub struct Bring {
    /// Also copy uncommitted changes, as changes that are not committed
    #[arg(long)]
    dirty: bool,
    /// Ignored files to copy, such as .env, in the format of .gitignore; can be repeated; the file .worktreeinclude in the
    /// repository lists more
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
}

/// What a new workspace is made from.
pub struct NewWorkspace<'a> {
    /// The repository.
    pub source: &'a Source,
    /// The branch.
    pub branch: BranchName,
    /// Files that a clone does not have.
    pub bring: Bring,
    /// Which submodules of a remote repository could not be fetched.
    pub unfetched: Option<Unfetched>,
}

/// Writes all files of a machine except its settings, which need the ports.
///
/// # Errors
/// The repository cannot be cloned, or a file cannot be copied or written.
pub fn fill(staging: &Path, new: &NewWorkspace<'_>, all: bool, secrets: &[SecretSpec]) -> Result<()> {
    make_private_dir(staging)?;
    egress::secrets::keep(staging, secrets)?;
    let NewWorkspace { source, branch, bring, unfetched } = new;
    let look = Look::at(source, staging, unfetched.as_ref())?;
    let left = look.left();
    let workspace = MachinePath::Workspace.of(staging);
    look.clone_branch(branch, all, &workspace)?;
    let changes = if bring.dirty { look.bring_changes(branch, &workspace)? } else { 0 };
    let ignored = look.bring_ignored(&bring.include, &workspace)?;
    let counted = |changes: usize, ignored: usize| {
        let parts = [(changes, "uncommitted change"), (ignored, "ignored file")];
        let parts: Vec<_> =
            parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| text::count(*number, what)).collect();
        (!parts.is_empty()).then(|| format!("{} in {}", parts.join(" and "), source.dir.display()))
    };
    if let Some(copied) = counted(changes, ignored) {
        note(&format!("copied into the machine: {copied}"));
    }
    match left {
        Ok(left) => {
            let changes = if bring.dirty { 0 } else { left.changes };
            let ignored = if ignored > 0 { 0 } else { left.ignored };
            if let Some(left) = counted(changes, ignored) {
                note(&format!("not copied into the machine: {left}"));
            }
        }
        Err(error) => {
            interrupt::check()?;
            note(&format!("failed to count uncommitted changes: {error:#}"));
        }
    }
    credentials::make_keys(staging, staging)
}
