//! The error for a branch or name that no machine has.

use std::path::Path;

use anyhow::Result;

use crate::host::files::has_dir;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;
use crate::term::did_you_mean::nearest;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Returns the machines of a branch whose repository was moved or deleted.
///
/// # Errors
/// The state directory cannot be read.
pub fn lost(state: &StateDir, branch: &BranchName) -> Result<Vec<Machine>> {
    let all = state.names()?.into_iter().map(|name| Machine::new(state, name));
    let is_lost = |machine: &Machine| {
        machine.settings().is_ok_and(|settings| settings.branch == *branch && machine.has_lost_source(&settings))
    };
    Ok(all.filter(is_lost).collect())
}

/// The repository in which a branch was looked for.
pub struct Place<'a> {
    /// Path of the repository.
    pub source: &'a Path,
    /// Branches of the repository, for which a machine can be created.
    pub branches: Vec<BranchName>,
}

impl Place<'_> {
    /// Returns the most similar branch with a machine of this repository.
    fn similar_with_machine(&self, state: &StateDir, typed: &str) -> Option<String> {
        let machines = state.names().ok()?.into_iter().filter_map(|name| Machine::new(state, name).settings().ok());
        let branches: Vec<_> = machines.filter(|one| one.source == self.source).map(|one| one.branch).collect();
        most_similar(&branches, typed)
    }
}

fn most_similar(branches: &[BranchName], typed: &str) -> Option<String> {
    let names: Vec<_> = branches.iter().map(BranchName::as_str).collect();
    nearest(typed, &names).map(str::to_owned)
}

/// Returns the error for a branch or name that no machine has.
#[must_use]
pub fn no_machine(state: &StateDir, target: &str) -> anyhow::Error {
    no_machine_in(state, target, None)
}

/// Like [`no_machine`], for a branch or name that was looked for in a repository.
#[must_use]
pub fn no_machine_in(state: &StateDir, target: &str, place: Option<&Place<'_>>) -> anyhow::Error {
    let lost = target.parse().ok().and_then(|branch| lost(state, &branch).ok()).unwrap_or_default();
    // A file of another kind may have the machine's name.
    if let Some(Err(wrong)) = target.parse().ok().map(|name| has_dir(&state.machine(&name))) {
        return wrong;
    }
    let shown = one_line(target);
    if let Some(machine) = lost.first() {
        let name = &machine.name;
        return Failure::new(format!(
            "there is no machine for {shown} here, but the source repository of {name} is missing"
        ))
        .with_hint(format!("if this repository was moved: agent-vm relink {name}"))
        .into();
    }
    let quoted = |word: &str| shlex::try_quote(word).map_or_else(|_| "BRANCH".into(), std::borrow::Cow::into_owned);
    let has_branch = place.is_some_and(|place| place.branches.iter().any(|branch| branch.as_str() == target));
    let with_machine = || place?.similar_with_machine(state, target);
    let with_machine = || with_machine().or_else(|| similar(state, target).map(|name| name.to_string()));
    let hint = if has_branch {
        format!("agent-vm create --branch {}", quoted(&shown))
    } else if let Some(name) = with_machine() {
        format!("did you mean {name}?\nto list all machines: agent-vm list")
    } else if let Some(branch) = place.and_then(|place| most_similar(&place.branches, target)) {
        format!("did you mean the branch {branch}? It has no machine: agent-vm create --branch {}", quoted(&branch))
    } else {
        "to list all machines: agent-vm list".to_owned()
    };
    let place = place.map_or_else(String::new, |place| format!(" in {}", place.source.display()));
    Failure::new(format!("there is no machine for {shown}{place}")).with_hint(hint).into()
}

/// Returns the machine whose name is most similar to what was typed: it begins or ends with that, or is nearly equal.
fn similar(state: &StateDir, typed: &str) -> Option<VmName> {
    /// From 0 to 1: `ap-main` has 0.86 for `app-main`, and `app-dev` 0.5.
    const NEARLY: f64 = 0.75;
    let likeness = |name: &VmName| {
        let name = name.as_str();
        let contains = typed.len() > 1 && (name.starts_with(typed) || name.ends_with(&format!("-{typed}")));
        if contains { 1.0 } else { strsim::normalized_levenshtein(name, typed) }
    };
    let names = state.names().ok()?.into_iter().map(|name| (likeness(&name), name));
    let near = names.filter(|(likeness, _)| *likeness >= NEARLY);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::error::hint_of;

    #[test]
    fn only_a_similar_name_is_in_the_hint() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::locate(Some(dir.path())).unwrap();
        for name in ["app-main", "web-feature-x"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let hint = |typed: &str| hint_of(&no_machine(&state, typed)).unwrap();
        for (typed, name) in [
            ("ap-main", "app-main"),
            ("app", "app-main"),
            ("feature-x", "web-feature-x"),
            ("web-faeture-x", "web-feature-x"),
        ] {
            assert!(hint(typed).contains(&format!("did you mean {name}?")), "{typed}: {}", hint(typed));
        }
        for typed in ["two", "zzz", "x"] {
            assert_eq!(hint(typed), "to list all machines: agent-vm list", "{typed}");
        }
    }
}
