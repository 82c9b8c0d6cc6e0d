//! Prints notices about optional features that this host lacks.

use crate::confine::Confinement;
use crate::guest::{Guest, images};
use crate::machine::Machine;
use crate::machine::run_state::{RunDir, RunFacts};
use crate::machine::settings::Settings;
use crate::term::progress::note;
use crate::term::text::count;
use crate::vm::in_force;
use crate::vm::qemu_args::Virtiofsd;
use crate::vm::workspace_guard;

/// Reports weaker confinement of the machine's processes, and why namespaces are missing.
pub fn confinement(confinement: &Confinement, reason: Option<anyhow::Error>) {
    match reason {
        Some(why) => note(&format!(
            "notice: QEMU runs without namespaces ({why:#}); only {} confines it: install bubblewrap, and see docs/troubleshooting.md for user namespaces",
            confinement.describe()
        )),
        None if !confinement.has_own_network() => {
            note("notice: QEMU shares this host's network, because systemd-socket-proxyd is missing: install systemd");
        }
        None => {}
    }
    if confinement.account().is_some_and(|account| account.stage.is_none()) {
        note(
            "notice: unprivileged user namespaces are disabled on this host: machines started by root share one account, and \
             the processes that hold their namespaces stay root; docs/troubleshooting.md shows how to enable them",
        );
    }
    if confinement.account().is_some_and(|account| !account.is_own()) {
        note(
            "notice: the account agent-vm does not exist: the machine's processes run as nobody, which other programs may use \
             too; to create it: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin agent-vm",
        );
    }
}

/// Reports packages of a Debian guest that are old.
pub fn old_packages(machine: &Machine, guest: &Guest) {
    if let Some(age) = images::age(&guest.package).filter(|age| *age > images::OLD) {
        note(&format!(
            "notice: the Debian packages of {name} are {} old; to update them: agent-vm image update\nthen: agent-vm restart {name}",
            count(usize::try_from(age.as_secs() / 86_400).unwrap_or(usize::MAX), "day"),
            name = machine.name
        ));
    }
}

/// Reports limits that a user set and nothing on this host enforces.
pub fn limits(settings: &Settings, facts: &RunFacts, run: &RunDir) {
    let all = run.qemu().map(|qemu| in_force::all(run, settings, facts, &qemu));
    all.iter().flatten().filter_map(in_force::LimitState::notice).for_each(|notice| note(&notice));
}

/// Reports what the machine may not write.
pub fn space(machine: &Machine, facts: &RunFacts) {
    if let Some(problem) = workspace_guard::problem(machine, facts) {
        note(&format!("notice: {problem}"));
    }
}

/// Warns if the workspace has so many files that virtiofsd may run out of open files. It keeps one open for each file
/// that the guest has seen, and an unprivileged process cannot raise the hard limit.
pub fn open_files(machine: &Machine, daemon: &Virtiofsd) {
    let half = usize::try_from(daemon.open_files / 2).unwrap_or(usize::MAX);
    if walkdir::WalkDir::new(machine.workspace()).into_iter().nth(half).is_some() {
        note(&format!(
            "notice: the workspace has more than {half} files, and this host limits open files to {} (ulimit -Hn); raise \
             the limit if the guest reports \"Too many open files in system\"",
            daemon.open_files
        ));
    }
}
