//! What a start says of a host that lacks something which can be done without.

use crate::confine::Confinement;
use crate::machine::Machine;
use crate::term::progress::note;
use crate::vm::qemu_args::Virtiofsd;

/// Of what is around the machine's processes, and why there are no namespaces.
pub fn confinement(confinement: &Confinement, obstacle: Option<anyhow::Error>) {
    match obstacle {
        Some(why) => note(&format!(
            "notice: no namespaces around QEMU ({why:#}); there is {}: install bubblewrap, and see docs/troubleshooting.md for user namespaces",
            confinement.describe()
        )),
        None if !confinement.has_own_network() => {
            note("notice: QEMU is on this host's network: systemd's socket proxy is missing: install systemd");
        }
        None => {}
    }
    if confinement.account().is_some_and(|account| account.stage.is_none()) {
        note(
            "notice: accounts without rights make no user namespaces here: root's machines share an account, and what holds \
             their namespaces stays root: docs/troubleshooting.md shows how to allow them",
        );
    }
    if confinement.account().is_some_and(|account| !account.is_own()) {
        note(
            "notice: there is no account agent-vm: the machine's processes run as nobody, as other programs may: \
             useradd --system --user-group --no-create-home --shell /usr/sbin/nologin agent-vm",
        );
    }
}

/// When the workspace may need more open files than virtiofsd can have: it keeps one open for each file that the guest has
/// seen, and an unprivileged process cannot raise the hard limit.
pub fn open_files(machine: &Machine, daemon: &Virtiofsd) {
    let half = usize::try_from(daemon.open_files / 2).unwrap_or(usize::MAX);
    if walkdir::WalkDir::new(machine.workspace()).into_iter().nth(half).is_some() {
        note(&format!(
            "notice: the workspace has more than {half} files and this host allows {} open ones (ulimit -Hn): raise \
             the limit if the guest reports \"Too many open files in system\"",
            daemon.open_files
        ));
    }
}
