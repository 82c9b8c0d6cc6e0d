//! `agent-vm apply` without `--config`: applies fetched commits.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::{Target, reviewed};
use crate::cli::target;
use crate::git::fetched::work_tree;
use crate::git::lfs_sizes::require_true_sizes;
use crate::git::users_git::{exists, require_ready, run, users_git};
use crate::host::files::quoted;
use crate::machine::context::Context;
use crate::term::error::Failure;
use crate::term::text::count;

/// Flags that choose commits.
#[derive(Args, Clone, Debug)]
#[group(id = "pick", multiple = true)]
pub struct PickArgs {
    /// Commit to apply; can be repeated [default: all new commits of the machine's branch except merges]
    #[arg(long = "commit", value_name = "COMMIT")]
    commits: Vec<String>,
    /// Branch of the machine [default: its own]
    #[arg(long = "ref", value_name = "NAME", conflicts_with = "commits")]
    reference: Option<String>,
    /// Apply the uncommitted changes to the work tree, without a commit
    #[arg(long, conflicts_with_all = ["commits", "reference", "sign"])]
    uncommitted: bool,
    /// Sign the commits with your own key
    #[arg(long)]
    sign: bool,
}

/// Applies fetched commits of a machine to the checked-out branch of the source repository (cherry-pick). Conflicts are
/// left as git leaves them.
///
/// # Errors
/// There is no such machine or commit, or git cannot apply one.
pub fn pick(context: &Context, target: &Target, args: &PickArgs) -> Result<()> {
    let machine = target::find_used(&context.state, target.as_deref())?;
    let name = &machine.name;
    let reviewed::Reviewed { source, refs, settings } = reviewed::fetched(context, &machine)?;
    let tree = work_tree(&source, &reviewed::cwd())?;
    require_ready(&tree)?;
    let git = || users_git(&tree).arg("cherry-pick");
    let dir = quoted(&tree);
    let mut snapshot = None;
    let (git, what) = if args.uncommitted {
        let tip = refs.require(settings.branch.as_str())?;
        let changes = refs.uncommitted_on(&tip.commit)?.ok_or_else(|| {
            Failure::new(format!("{name} had no uncommitted changes on {} at the last fetch", settings.branch))
                .with_hint(format!("agent-vm fetch {name}"))
        })?;
        require_true_sizes(&refs, &tree, &[&changes.commit])?;
        let git = git().args(["--no-commit", "--mainline=1"]).arg(&changes.commit);
        snapshot = Some(changes.commit);
        (git, "uncommitted changes".to_owned())
    } else {
        let commits = if args.commits.is_empty() {
            let tip = refs.require(args.reference.as_deref().unwrap_or(settings.branch.as_str()))?;
            let head = users_git(&tree).args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).output()?;
            if !head.status.success() {
                return Err(Failure::new(format!("{} has no checked-out commit to apply commits to", tree.display()))
                    .with_hint(format!("to take the machine's history: agent-vm merge {name}"))
                    .into());
            }
            refs.new_commits(String::from_utf8_lossy(&head.stdout).trim(), &tip.commit)?
        } else {
            args.commits.iter().map(|word| refs.commit(word)).collect::<Result<_>>()?
        };
        if commits.is_empty() {
            let nothing = format!("{name} has no commits that {} lacks\n", tree.display());
            return reviewed::report(context, &machine, &tree, &nothing);
        }
        require_true_sizes(&refs, &tree, &commits.iter().map(String::as_str).collect::<Vec<_>>())?;
        let what = count(commits.len(), "commit");
        // A commit that changes no file stays one.
        (git().arg("--allow-empty").args(args.sign.then_some("--gpg-sign")).args(commits), what)
    };
    let undo = format!("to undo it: git -C {dir} cherry-pick --abort");
    let hint = || match (exists(&tree, "CHERRY_PICK_HEAD"), is_unchanged(&tree)) {
        (true, true) => format!(
            "{} has the changes of this commit; to go on with the next: git -C {dir} cherry-pick --skip\n{undo}",
            tree.display()
        ),
        (true, false) => format!("to see the conflicts: git -C {dir} status\n{undo}"),
        (false, _) => format!("to see what is there: git -C {dir} status"),
    };
    let said = run(&git, &format!("applying {what} of {name} in {}", tree.display()), hint)?;
    if let Some(commit) = snapshot {
        stage_with_filters(&tree, &commit)?;
    }
    reviewed::report(context, &machine, &tree, &said)
}

/// Returns whether the index has what HEAD has.
fn is_unchanged(tree: &Path) -> bool {
    let diff = users_git(tree).args(["diff-index", "--cached", "--quiet", "--no-ext-diff", "HEAD", "--"]);
    diff.output().is_ok_and(|output| output.status.success())
}

/// Stages the changed files of a snapshot again, those that have a filter. The snapshot has their contents as they are in the
/// machine's work tree, such as those of Git LFS files.
fn stage_with_filters(tree: &Path, commit: &str) -> Result<()> {
    let changed = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff"];
    let changed = users_git(tree).args(changed).args([&format!("{commit}^1"), commit]).checked()?.stdout;
    let asked = users_git(tree).args(["check-attr", "-z", "--stdin", "filter"]).stdin(changed).checked()?.stdout;
    let mut parts = asked.split(|byte| *byte == 0);
    let mut files = Vec::new();
    while let (Some(path), Some(_), Some(value)) = (parts.next(), parts.next(), parts.next()) {
        let is_file = || tree.join(OsStr::from_bytes(path)).symlink_metadata().is_ok_and(|found| found.is_file());
        if !matches!(value, b"unspecified" | b"unset") && is_file() {
            files.extend([path, b"\0"].concat());
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let add = ["--literal-pathspecs", "add", "--renormalize", "--pathspec-from-file=-", "--pathspec-file-nul"];
    let hint = || format!("the changes are in the files; to stage them: git -C {} add --update", quoted(tree));
    run(&users_git(tree).args(add).stdin(files), "staging the changes", hint).map(drop)
}
