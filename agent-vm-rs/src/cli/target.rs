//! Which machine a command means: a branch of the current repository, or a machine's name.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::git::Source;
use crate::host::files::has_dir;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;
use crate::machine::unknown::{Place, no_machine, no_machine_in};
use crate::term::error::Failure;

/// The machine of a repository's branch; None if there is none yet.
///
/// # Errors
/// The state directory cannot be read.
pub fn machine_of(state: &StateDir, source: &Path, branch: &BranchName) -> Result<Option<Machine>> {
    let named = [VmName::plain(source, branch), VmName::hashed(source, branch)];
    let named = named.map(|name| Machine::new(state, name));
    if let Some(machine) = named.iter().find(|machine| belongs_to(machine, source, branch)) {
        return Ok(Some(machine.clone()));
    }
    // One that was relinked has the name of another place.
    let all = state.names()?.into_iter().map(|name| Machine::new(state, name));
    let relinked = all.into_iter().find(|machine| belongs_to(machine, source, branch));
    // With settings that cannot be read the name is all there is.
    Ok(relinked.or_else(|| named.into_iter().find(|machine| machine.exists() && machine.settings().is_err())))
}

/// The machine that a new one for this repository and branch would be.
///
/// # Errors
/// Every name it could have is another machine's.
pub fn free_name(state: &StateDir, source: &Path, branch: &BranchName) -> Result<Machine> {
    for name in [VmName::plain(source, branch), VmName::hashed(source, branch)] {
        let machine = Machine::new(state, name);
        // Whatever has the name.
        if machine.dir.symlink_metadata().is_err() {
            return Ok(machine);
        }
    }
    let name = VmName::hashed(source, branch);
    let machine = Machine::new(state, name);
    has_dir(&machine.dir)?;
    let name = machine.name;
    Err(Failure::new(format!("the name {name} belongs to another machine"))
        .with_hint(format!("agent-vm destroy {name}"))
        .into())
}

fn belongs_to(machine: &Machine, source: &Path, branch: &BranchName) -> bool {
    machine.settings().is_ok_and(|settings| settings.source == source && settings.branch == *branch)
}

/// The repository and branch that the current directory is about.
///
/// # Errors
/// There is no repository, or HEAD is detached and no branch was named; or it is a machine's workspace: git must
/// not run there, since the guest owns that repository.
pub fn current(state: &StateDir, branch: Option<&str>) -> Result<(Source, BranchName)> {
    let cwd = std::env::current_dir().context("failed to find the current directory")?;
    if cwd.starts_with(state.path()) {
        return Err(Failure::new(format!("{} belongs to the machines, not to you", cwd.display()))
            .with_hint("cd into your own repository")
            .into());
    }
    let source = Source::discover(&cwd)?.ok_or_else(|| no_repository_to_clone(&cwd))?;
    if source.dir.to_str().is_none() {
        return Err(Failure::new(format!("the path of the repository {} is not valid UTF-8", source.dir.display()))
            .with_hint("rename the directory that is not, with mv")
            .into());
    }
    let branch = match branch {
        Some(name) => name.parse()?,
        None => source.current_branch()?.ok_or_else(|| {
            Failure::new(format!("HEAD of {} is detached: there is no current branch", source.dir.display()))
                .with_hint("name one: agent-vm create --branch BRANCH")
        })?,
    };
    Ok((source, branch))
}

/// The repository of `--source DIR`, or the one that the current directory is in.
///
/// # Errors
/// There is no such directory, it is not in a repository, or it is a machine's.
pub fn repository(state: &StateDir, dir: Option<&Path>) -> Result<Source> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::current_dir().context("failed to find the current directory")?,
    };
    let dir = std::fs::canonicalize(&dir).with_context(|| {
        Failure::usage(format!("there is no directory {}", dir.display()))
            .with_hint("--source DIR names the repository")
    })?;
    // The guest owns what is there: git must not run in it.
    let found = if dir.starts_with(state.path()) { None } else { Source::discover(&dir)? };
    found.ok_or_else(|| {
        Failure::usage(format!("{} is no repository of yours", dir.display()))
            .with_hint("name the directory that the repository is in now: --source DIR")
            .into()
    })
}

fn no_repository(cwd: &Path) -> Failure {
    Failure::new(format!("{} is not in a git repository", cwd.display()))
        .with_hint("cd into one, or name a machine (agent-vm list shows them)")
}

/// As [`no_repository`], of a command that names no machine.
fn no_repository_to_clone(cwd: &Path) -> Failure {
    Failure::new(format!("{} is not in a git repository", cwd.display()))
        .with_hint("cd into the repository that the machine is to be for; git init makes one")
}

/// The existing machine that `target` means: a branch of the current repository, else a machine's name;
/// without it, the current branch, or the machine whose workspace we are in.
///
/// # Errors
/// There is none.
pub fn find(state: &StateDir, target: Option<&str>) -> Result<Machine> {
    let cwd = std::env::current_dir().context("failed to find the current directory")?;
    // In a workspace git itself must not run: the guest owns that repository.
    let inside = cwd.strip_prefix(state.path()).ok().and_then(|below| below.components().next());
    if let Some(Ok(name)) = inside.and_then(|first| first.as_os_str().to_str()).map(str::parse) {
        let machine = Machine::new(state, name);
        if target.is_none() && machine.exists() {
            return Ok(machine);
        }
    }
    let by_name = |name: &str| name.parse().ok().map(|name| Machine::new(state, name)).filter(Machine::exists);
    let found = if inside.is_some() { Ok(None) } else { Source::discover(&cwd) };
    let source = match found {
        Ok(source) => source,
        // A machine's name needs no repository, so none that git refuses either.
        Err(error) => return target.and_then(by_name).ok_or(error),
    };
    let Some(source) = source else {
        let Some(name) = target else { return Err(no_repository(&cwd).into()) };
        return by_name(name).ok_or_else(|| no_machine(state, name));
    };
    let Some(target) = target else {
        let branch = source.current_branch()?.ok_or_else(|| {
            Failure::new(format!("HEAD of {} is detached: there is no current branch", source.dir.display()))
                .with_hint("name a branch or a machine (agent-vm list shows them)")
        })?;
        let place = Place { source: &source.dir, has_branch: true };
        return machine_of(state, &source.dir, &branch)?
            .ok_or_else(|| no_machine_in(state, branch.as_str(), Some(&place)));
    };
    let branch = target.parse::<BranchName>();
    if let Ok(branch) = &branch
        && let Some(machine) = machine_of(state, &source.dir, branch)?
    {
        return Ok(machine);
    }
    match (by_name(target), branch) {
        (Some(machine), _) => Ok(machine),
        (None, Ok(branch)) => {
            let place = Place { source: &source.dir, has_branch: source.has_branch(&branch).unwrap_or(false) };
            Err(no_machine_in(state, target, Some(&place)))
        }
        (None, Err(not_a_branch)) => Err(not_a_branch.into()),
    }
}

/// The machine of the current branch; None if there is none yet.
///
/// # Errors
/// There is no repository, or no current branch.
pub fn current_machine(state: &StateDir) -> Result<Option<Machine>> {
    let cwd = std::env::current_dir().context("failed to find the current directory")?;
    if cwd.starts_with(state.path()) {
        return find(state, None).map(Some);
    }
    let (source, branch) = current(state, None)?;
    machine_of(state, &source.dir, &branch)
}
