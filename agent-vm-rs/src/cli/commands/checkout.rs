//! `agent-vm checkout`

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::{Target, reviewed};
use crate::cli::target;
use crate::git::fetched::work_tree;
use crate::git::lfs_sizes::require_true_sizes;
use crate::git::users_git::{require_ready, run, users_git};
use crate::host::files::quoted;
use crate::machine::branch::BranchName;
use crate::machine::context::Context;
use crate::term::progress::note;

/// Flags of `checkout`.
#[derive(Args, Clone, Debug)]
pub struct CheckoutArgs {
    #[command(flatten)]
    target: Target,
    /// Branch of the machine [default: its own]
    #[arg(long = "ref", value_name = "NAME")]
    reference: Option<String>,
    /// Name of the branch in the source repository [default: the machine's name of it]
    #[arg(short, long, value_name = "NAME")]
    name: Option<BranchName>,
}

/// Checks out a branch of the source repository that tracks a machine's fetched branch. A new branch starts at the
/// machine's commit; an existing one keeps its commits.
///
/// # Errors
/// There is no such machine, or git cannot check the branch out.
pub fn checkout(context: &Context, args: &CheckoutArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let reviewed::Reviewed { source, refs, settings } = reviewed::fetched(context, &machine)?;
    let branch = args.reference.as_deref().unwrap_or(settings.branch.as_str());
    let tip = refs.require(branch)?;
    let name = args.name.clone().map_or_else(|| tip.branch().unwrap_or(branch).parse(), Ok)?;
    let tree = work_tree(&source, &reviewed::cwd())?;
    require_ready(&tree)?;
    let exists = source.branches()?.contains(&name);
    if !exists {
        require_true_sizes(&refs, &tree, &[&tip.commit])?;
    }
    let git = users_git(&tree).args(["checkout", "--quiet"]);
    let git = match exists {
        true => git.arg(name.as_str()).arg("--"),
        false => git.args(["--no-track", "-b", name.as_str()]).arg(&tip.commit).arg("--"),
    };
    let dir = quoted(&tree);
    let hint = || format!("to see your branches and work trees: git -C {dir} worktree list");
    let switch = || run(&git, &format!("checking {name} out in {}", tree.display()), hint);
    if exists {
        switch()?;
        // It keeps its upstream.
        note(&format!(
            "{} is on {name}, which existed; to merge the machine's commits: agent-vm merge {}",
            tree.display(),
            machine.name
        ));
    } else {
        // First, so that a killed command leaves no branch that tracks nothing: commands on it would not find the machine.
        let upstream = [(".", "remote"), (tip.reference.as_str(), "merge")].map(|(value, key)| (Some(value), key));
        let before = upstream.map(|(_, key)| (setting(&tree, &name, key), key));
        set(&tree, &name, upstream)?;
        if let Err(error) = switch() {
            set(&tree, &name, before.each_ref().map(|(value, key)| (value.as_deref(), *key)))?;
            return Err(error);
        }
        note(&format!("{} is on {name}, which tracks {}", tree.display(), tip.reference));
    }
    if context.json {
        return reviewed::report(context, &machine, &tree, "");
    }
    Ok(())
}

/// Returns a setting of a branch in the repository's own configuration.
fn setting(tree: &Path, name: &BranchName, key: &str) -> Option<String> {
    users_git(tree).args(["config", "--local", "--get", &format!("branch.{name}.{key}")]).read().ok()
}

/// Changes settings of a branch; those without a value are removed.
fn set<const N: usize>(tree: &Path, name: &BranchName, settings: [(Option<&str>, &str); N]) -> Result<()> {
    for (value, key) in settings {
        let key = format!("branch.{name}.{key}");
        let config = users_git(tree).args(["config", "--local"]);
        let config = match value {
            Some(value) => config.args(["--replace-all", &key, value]),
            None => config.args(["--unset-all", &key]),
        };
        run(&config, "changing the branch's configuration", || format!("git -C {} config --list", quoted(tree)))?;
    }
    Ok(())
}
