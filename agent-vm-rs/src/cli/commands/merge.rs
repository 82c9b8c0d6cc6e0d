//! `agent-vm merge`

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::{Target, reviewed};
use crate::cli::target;
use crate::git::fetched::work_tree;
use crate::git::lfs_sizes::require_true_sizes;
use crate::git::merge_options::require_harmless;
use crate::git::users_git::{exists, require_ready, run, users_git};
use crate::host::files::quoted;
use crate::machine::context::Context;

/// Flags of `merge`.
#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    #[command(flatten)]
    target: Target,
    /// Branch of the machine [default: its own]
    #[arg(long = "ref", value_name = "NAME")]
    reference: Option<String>,
    /// Only merge if no merge commit is needed
    #[arg(long)]
    ff_only: bool,
}

/// Merges the fetched commits of a machine into the checked-out branch of the source repository. Conflicts are left as
/// git leaves them.
///
/// # Errors
/// There is no such machine, or git cannot merge.
pub fn merge(context: &Context, args: &MergeArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let reviewed::Reviewed { source, refs, settings } = reviewed::fetched(context, &machine)?;
    let tip = refs.require(args.reference.as_deref().unwrap_or(settings.branch.as_str()))?;
    let tree = work_tree(&source, &reviewed::cwd())?;
    let branch = tip.branch().unwrap_or(&tip.reference);
    let git = users_git(&tree).args([
        "merge",
        "--no-edit",
        "--commit",
        "--no-squash",
        "-m",
        &format!("Merge branch '{branch}' of the machine {}", machine.name),
    ]);
    let git = git.args(args.ff_only.then_some("--ff-only")).arg(&tip.reference);
    require_ready(&tree)?;
    require_harmless(&tree)?;
    require_true_sizes(&refs, &tree, &[&tip.commit])?;
    let dir = quoted(&tree);
    let hint = || match exists(&tree, "MERGE_HEAD") {
        true => format!("to see the conflicts: git -C {dir} status\nto undo the merge: git -C {dir} merge --abort"),
        false if args.ff_only && !reviewed::is_ahead(&tree, &tip.reference) => {
            let name = args.reference.iter().map(|name| format!(" --ref {}", quoted(name.as_ref())));
            let words = name.fold(machine.name.to_string(), |words, word| words + &word);
            format!("to merge with a merge commit: agent-vm merge {words}")
        }
        false if allows_no_merge_commit(&tree) && !reviewed::is_ahead(&tree, &tip.reference) => format!(
            "merge.ff of git's configuration allows no merge commit: git -C {dir} config --show-origin --get merge.ff\n\
             to add the commits one by one: agent-vm apply {}",
            machine.name
        ),
        false => format!("nothing was merged; to see your own changes: git -C {dir} status"),
    };
    let said = run(&git, &format!("merging {branch} of {} in {}", machine.name, tree.display()), hint)?;
    // Git adds this after a fast-forward; the user gave no -m.
    reviewed::report(context, &machine, &tree, &said.replace(" (no commit created; -m option ignored)", ""))
}

fn allows_no_merge_commit(tree: &Path) -> bool {
    let ask = users_git(tree).args(["config", "--get", "merge.ff"]).read();
    ask.is_ok_and(|value| value == "only")
}
