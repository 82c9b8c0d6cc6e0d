//! Starts the processes of a run and records their ids.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::host::interrupt::Deadline;
use crate::host::process::{Detached, Invocation, ProcessId};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;
use crate::term::error::Failure;

/// Time for a shell to start the port forwarders.
const FORWARDER_START: Duration = Duration::from_secs(10);

/// Starts virtiofsd, and waits until it listens.
///
/// # Errors
/// It ends, or the deadline passes.
pub fn start_virtiofsd(daemon: &Invocation, run: &RunDir, deadline: Deadline) -> Result<()> {
    let log = run.file(MachinePath::VirtiofsdLog);
    let process = daemon.start_detached(&log)?.called("virtiofsd");
    remember_inner(&process, &log, &run.file(MachinePath::VirtiofsdPid), deadline)?;
    deadline.poll("virtiofsd", Duration::from_millis(5), || {
        process.check_alive(&log)?;
        Ok(run.file(MachinePath::VirtiofsdSocket).exists().then_some(()))
    })
}

/// Records a process of the run.
///
/// # Errors
/// The file cannot be written.
pub fn remember(process: &Detached, run: &RunDir, file: MachinePath) -> Result<()> {
    // If it has already ended, the code that waits for it reports that.
    match ProcessId::of(process.pid()?) {
        Some(id) => id.write(&run.file(file)),
        None => Ok(()),
    }
}

/// Records the child of the process that makes a namespace. That child becomes the program itself, which signals and
/// figures are about.
///
/// # Errors
/// The deadline passes, or the file cannot be written.
pub fn remember_inner(outer: &Detached, log: &Path, file: &Path, deadline: Deadline) -> Result<()> {
    let pid = outer.pid()?;
    let inner = deadline.poll("a process in its namespace", Duration::from_millis(2), || {
        // If it has already ended, the code that waits for it reports that.
        let ended = outer.check_alive(log).is_err();
        Ok(ProcessId::only_child_of(pid).map(Some).or(ended.then_some(None)))
    })?;
    inner.map_or(Ok(()), |program| program.write(file))
}

/// Records the processes that forward ports into QEMU's namespace. They are children of the first process there.
///
/// # Errors
/// One did not start, or the file cannot be written.
pub fn remember_forwarders(
    qemu: &ProcessId,
    run: &RunDir,
    ports: &[(u16, MachinePath)],
    deadline: Deadline,
) -> Result<()> {
    for (port, file) in ports {
        let target = format!("127.0.0.1:{port}");
        let is_it = |child: &ProcessId| {
            let words = child.words();
            // The shell that starts the forwarder also has the program among its arguments.
            words.last() == Some(&target) && !words.iter().any(|word| word == "--")
        };
        let found = deadline.at_most(FORWARDER_START).poll("the ports' forwarders", Duration::from_millis(2), || {
            // If QEMU has already ended, the code that waits for it reports that.
            let ended = !qemu.alive();
            Ok(qemu.children().into_iter().find(is_it).map(Some).or(ended.then_some(None)))
        });
        let found = found.with_context(|| {
            Failure::new(format!("cannot forward port {port} to the machine: the forwarder ended"))
                .with_hint("journalctl --boot (it may show why systemd-socket-proxyd ended)")
        })?;
        found.map_or(Ok(()), |forwarder| forwarder.write(&run.file(*file)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ports_forwarder_is_remembered_and_a_missing_one_told() {
        let machine = tempfile::tempdir().unwrap();
        let run = RunDir::of(machine.path());
        std::fs::create_dir(run.path()).unwrap();
        // The same command as the namespace's shell runs.
        let forwarder = |port: u16| format!("sh -c 'kill -STOP $$' forwarder 127.0.0.1:{port} & ");
        let starts = forwarder(2222) + &forwarder(8000) + "kill -STOP $$";
        let mut shell = std::process::Command::new("bash").args(["-c", &starts]).spawn().unwrap();
        let qemu = ProcessId::of(i32::try_from(shell.id()).unwrap()).unwrap();
        let deadline = Deadline::after(Duration::from_secs(20));
        remember_forwarders(
            &qemu,
            &run,
            &[(8000, MachinePath::ForwardMcpPid), (2222, MachinePath::ForwardSshPid)],
            deadline,
        )
        .unwrap();
        let [mcp, ssh] = [MachinePath::ForwardMcpPid, MachinePath::ForwardSshPid]
            .map(|file| ProcessId::read(&run.file(file)).unwrap());
        assert!(mcp.words().ends_with(&["127.0.0.1:8000".to_owned()]), "{:?}", mcp.words());
        assert!(ssh.words().ends_with(&["127.0.0.1:2222".to_owned()]), "{:?}", ssh.words());

        let soon = Deadline::after(Duration::from_millis(50));
        let error = remember_forwarders(&qemu, &run, &[(9999, MachinePath::SshPid)], soon).unwrap_err();
        assert!(error.to_string().contains("port 9999"), "{error}");
        let children = qemu.children();
        shell.kill().unwrap();
        shell.wait().unwrap();
        children.iter().for_each(|child| child.signal(rustix::process::Signal::KILL));
        // A machine that has already ended is reported elsewhere.
        remember_forwarders(&qemu, &run, &[(9999, MachinePath::SshPid)], soon).unwrap();
        assert!(!run.file(MachinePath::SshPid).exists());
    }
}
