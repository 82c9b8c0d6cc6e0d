//! The error of a branch or name that no machine has.

use anyhow::Result;

use crate::host::files::has_dir;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::state_dir::StateDir;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// The machines of a branch whose repository was moved or deleted.
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

/// The error of a branch or name that no machine has.
#[must_use]
pub fn no_machine(state: &StateDir, target: &str) -> anyhow::Error {
    let lost = target.parse().ok().and_then(|branch| lost(state, &branch).ok()).unwrap_or_default();
    // Something else may have its name.
    if let Some(Err(wrong)) = target.parse().ok().map(|name| has_dir(&state.machine(&name))) {
        return wrong;
    }
    let target = one_line(target);
    if let Some(machine) = lost.first() {
        let why = format!("there is no machine for {target} here, but {} has lost its source", machine.name);
        let hint = format!("if this repository was moved: agent-vm relink {} --source DIR", machine.name);
        return Failure::new(why).with_hint(hint).into();
    }
    let quoted = shlex::try_quote(&target).map_or_else(|_| "BRANCH".into(), std::borrow::Cow::into_owned);
    Failure::new(format!("there is no machine for {target}"))
        .with_hint(format!("agent-vm create --branch {quoted}, or agent-vm list to see the machines there are"))
        .into()
}
