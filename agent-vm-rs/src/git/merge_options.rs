//! Checks the options that a repository's own configuration gives to `git merge`. A repository that was downloaded may name
//! any: `--file` takes a file of the user as the message, and a strategy may drop what the machine made.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::users_git::users_git;
use crate::host::files::quoted;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// The settings, for `git config --get-regexp`.
const SETTINGS: &str = r"^(pull\.twohead|branch\..*\.mergeoptions)$";
/// Options of git-merge(1) that read no file and choose no strategy.
const HARMLESS: &str = "--allow-unrelated-histories --autostash --commit --edit --ff --ff-only --gpg-sign --log --no-autostash \
    --no-commit --no-edit --no-ff --no-gpg-sign --no-log --no-overwrite-ignore --no-progress --no-rerere-autoupdate \
    --no-signoff --no-squash --no-stat --no-summary --no-verify --no-verify-signatures --overwrite-ignore --progress --quiet \
    --rerere-autoupdate --signoff --squash --stat --summary --verbose --verify --verify-signatures -S -e -n -q -v";
/// The strategies that merge both sides.
const STRATEGIES: [&str; 3] = ["ort", "recursive", "resolve"];

/// Checks the settings of a repository for a merge into the checked-out branch. Those of the user's own configuration are the
/// user's choice.
///
/// # Errors
/// One has another option or strategy, or git fails.
pub fn require_harmless(work_tree: &Path) -> Result<()> {
    let head = users_git(work_tree).args(["symbolic-ref", "--quiet", "--short", "HEAD"]).output()?.stdout;
    let of_branch = format!("branch.{}.mergeoptions", String::from_utf8_lossy(&head).trim_end());
    let list = users_git(work_tree).args(["config", "--null", "--show-scope", "--get-regexp", SETTINGS]);
    let listed = list.output().context("failed to read git's configuration")?.stdout;
    let text = String::from_utf8_lossy(&listed);
    let mut parts = text.split('\0');
    while let (Some(scope), Some(entry)) = (parts.next(), parts.next()) {
        let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
        let is_good = match key {
            "pull.twohead" => value.split_whitespace().all(|word| STRATEGIES.contains(&word)),
            key if key == of_branch => is_harmless(value),
            _ => true,
        };
        if !is_good && matches!(scope, "local" | "worktree") {
            let (dir, key, value) = (quoted(work_tree), one_line(key), one_line(value));
            return Err(Failure::new(format!(
                "the repository gives git an option that it must not choose: {key} = {value}"
            ))
            .with_hint(format!(
                "remove the setting: git -C {dir} config --{scope} --unset-all {key}\n\
                     if you want it, set it in your own configuration: git config --global {key} OPTIONS"
            ))
            .into());
        }
    }
    Ok(())
}

/// Returns whether all options only say how git merges.
fn is_harmless(options: &str) -> bool {
    let mut words = options.split_whitespace();
    while let Some(word) = words.next() {
        let is_one = match word {
            // How git solves conflicts: the next word says it.
            "-X" | "--strategy-option" => words.next().is_some(),
            _ if word.starts_with("-X") || word.starts_with("--strategy-option=") || word.starts_with("--log=") => true,
            _ => HARMLESS.split_whitespace().any(|known| known == word),
        };
        if !is_one {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_read_files_or_drop_changes_are_not_harmless() {
        for options in ["", "--no-ff", "--ff-only  --signoff", "-X theirs", "-Xours --no-ff", "--log=3 -S"] {
            assert!(is_harmless(options), "{options}");
        }
        for options in [
            "-F /home/me/.ssh/id_ed25519",
            "-F/home/me/x",
            "--file=x",
            "--fil x",
            "--no-ff -nFx",
            "-s ours",
            "--strategy=ours",
            "-X",
            "--gpg-sign=x",
            "--abort",
            "-m x",
            "'--no-ff'",
            "other",
        ] {
            assert!(!is_harmless(options), "{options}");
        }
    }
}
