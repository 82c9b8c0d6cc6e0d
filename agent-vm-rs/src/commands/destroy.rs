//! `agent-vm destroy`

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Target;
use crate::cli::Context;
use crate::error::Failure;
use crate::machine::Machine;
use crate::progress::note;
use crate::state::{make_private_dir, remove_tree};
use crate::workspace_git::{View, put_away};
use crate::{shutdown, sweep, target};

/// Flags of `destroy`.
#[derive(Args, Clone, Debug)]
pub struct DestroyArgs {
    #[command(flatten)]
    target: Target,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Removes a machine. Commits that only its workspace has are never lost: on a terminal it refuses
/// unless `--yes`; then, and elsewhere, it keeps them in a bundle.
///
/// # Errors
/// It was told no, or something cannot be removed.
pub fn destroy(context: &Context, args: &DestroyArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let _lock = machine.lock(context.deadline())?;
    let name = &machine.name;
    let asks = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if asks {
        if let Ok(count @ 1..) = view(&machine).and_then(|view| view.new_commits()) {
            let commits = crate::text::count(count, "commit");
            return Err(Failure::new(format!("the workspace of {name} alone has {commits}"))
                .hint(format!("agent-vm destroy {name} --yes keeps them in a bundle and removes the machine"))
                .into());
        }
        if !confirmed(name.as_str())? {
            return Err(Failure::new(format!("{name} stays")).into());
        }
    }
    shutdown::stop(&machine, context.timeout)?;
    if let Some(bundle) = keep_commits(&machine)? {
        note(&format!(
            "the commits that only {name} had are in {0}\n  take them back: git fetch {0} 'refs/heads/*:refs/heads/rescued/*' 'refs/tags/*:refs/tags/rescued/*'",
            bundle.display()
        ));
    }
    // Its name is free at once, even if removing a large tree is cut short.
    let gone = context.state.path().join(format!("{}{name}", sweep::GONE));
    remove_tree(&gone)?;
    std::fs::rename(&machine.dir, &gone).with_context(|| format!("failed to remove {}", machine.dir.display()))?;
    remove_tree(&gone)?;
    note(&format!("{name} is gone"));
    Ok(())
}

fn view(machine: &Machine) -> Result<View> {
    let source = machine.settings().ok().and_then(|settings| machine.source(&settings));
    View::open(&machine.workspace(), source.as_ref(), &machine.dir)
}

/// The bundle with the workspace's own commits, if it has any. A repository that cannot be read (the guest may
/// have broken it) is kept whole.
fn keep_commits(machine: &Machine) -> Result<Option<PathBuf>> {
    let bundles = machine.state.bundles();
    make_private_dir(&bundles)?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let stem = |number: u32| match number {
        0 => format!("{}-{stamp}", machine.name),
        _ => format!("{}-{stamp}-{number}", machine.name),
    };
    let unused = |stem: &String| !["bundle", "git"].iter().any(|end| bundles.join(format!("{stem}.{end}")).exists());
    // Two machines of one name may be destroyed in one second.
    let stem = (0..).map(stem).find(unused).context("every name for a bundle is taken")?;
    let file = bundles.join(format!("{stem}.bundle"));
    let git_dir = machine.workspace().join(".git");
    // The guest may have closed them; what they are is not for it to say.
    for dir in [machine.workspace(), git_dir.clone()] {
        if dir.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
                .with_context(|| format!("failed to open {} up", dir.display()))?;
        }
    }
    match view(machine).and_then(|view| view.bundle(&file)) {
        Ok(kept) => Ok(kept.then_some(file)),
        Err(_) if git_dir.symlink_metadata().is_err() => Ok(None),
        // There git would be led to wherever the guest says.
        Err(_) if !git_dir.symlink_metadata().is_ok_and(|found| found.is_dir()) => {
            note("the workspace's .git is no directory: nothing of it is kept");
            Ok(None)
        }
        Err(error) => {
            let kept = bundles.join(format!("{stem}.git"));
            std::fs::rename(&git_dir, &kept).with_context(|| format!("failed to keep {}", git_dir.display()))?;
            put_away(&kept)?;
            note(&format!(
                "the workspace's repository cannot be read ({error:#}); it is kept as it is in {}, its configuration and hooks \
                 as *.of-the-guest",
                kept.display()
            ));
            Ok(None)
        }
    }
}

fn confirmed(name: &str) -> Result<bool> {
    let mut err = anstream::stderr();
    write!(err, "Remove {name} with its disk and workspace? [y/N] ")
        .and_then(|()| err.flush())
        .context("failed to ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("failed to read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
