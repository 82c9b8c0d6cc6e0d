//! The processes of a run, and how they are known later.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::interrupt::Deadline;
use crate::plan;
use crate::process::{Detached, Invocation};
use crate::run_state::{ProcessId, RunDir};

/// Starts virtiofsd, and waits until it listens.
///
/// # Errors
/// It ends, or the deadline passes.
pub fn start_virtiofsd(daemon: &Invocation, run: &RunDir, deadline: Deadline) -> Result<()> {
    let log = run.file("virtiofsd.log");
    let process = daemon.start_detached(&log)?;
    remember_inner(&process, &log, &run.file("virtiofsd.pid"), deadline)?;
    deadline.poll("virtiofsd", Duration::from_millis(5), || {
        process.check_alive(&log)?;
        Ok(run.file(plan::QEMU_DIR).join(plan::VIRTIOFSD_SOCKET).exists().then_some(()))
    })
}

/// Remembers a process of the run.
///
/// # Errors
/// The file cannot be written.
pub fn remember(process: &Detached, run: &RunDir, file: &str) -> Result<()> {
    // One that has ended already is reported by whoever waits for it.
    match ProcessId::of(process.pid()?) {
        Some(id) => id.write(&run.file(file)),
        None => Ok(()),
    }
}

/// The one child of what makes a namespace, which becomes the program: it is what signals and figures are about.
///
/// # Errors
/// The deadline passes, or the file cannot be written.
pub fn remember_inner(outer: &Detached, log: &Path, file: &Path, deadline: Deadline) -> Result<()> {
    let pid = outer.pid()?;
    let inner = deadline.poll("a process in its namespace", Duration::from_millis(2), || {
        // One that has ended already is reported by whoever waits for it.
        let ended = outer.check_alive(log).is_err();
        Ok(ProcessId::only_child_of(pid).map(Some).or(ended.then_some(None)))
    })?;
    inner.map_or(Ok(()), |program| program.write(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::Confinement;
    use crate::manifest::Manifest;
    use crate::manifest::tests::SAMPLE;
    use crate::plan::{Accel, Forwards, Inputs, Virtiofsd};
    use crate::run_state::{end_processes_of, processes_of};
    use crate::settings::tests::sample;
    use crate::virtiofsd::check_namespaces;

    /// Numbers of the processes that have this word in their command.
    fn with_word(word: &str) -> Vec<i32> {
        let has = |process: &procfs::process::Process| {
            process.cmdline().is_ok_and(|command| command.iter().any(|part| part.contains(word)))
        };
        procfs::process::all_processes().unwrap().flatten().filter(has).map(|process| process.pid).collect()
    }

    #[test]
    fn what_a_virtiofsd_has_started_ends_with_it() {
        if check_namespaces().is_err() {
            // Then the workspace is not shared by it.
            return;
        }
        let machine = tempfile::tempdir().unwrap();
        let run = RunDir::of(machine.path());
        std::fs::create_dir_all(run.file(plan::QEMU_DIR)).unwrap();
        let word = machine.path().file_name().unwrap().to_str().unwrap().to_owned() + "-left";
        // As one that was taken over: in a session of its own, and without the machine's mark.
        let script = format!(
            "#!/bin/sh\n\
             setsid env -i sh -c 'touch {socket}; sleep 1000; : {word}' &\n\
             exec sleep 1000\n",
            socket = plan::VIRTIOFSD_SOCKET,
        );
        let program = machine.path().join("virtiofsd");
        crate::state::write_file(&program, script, 0o755).unwrap();
        let manifest = Manifest::parse(SAMPLE).unwrap();
        let daemon = plan::virtiofsd(&Inputs {
            machine: machine.path(),
            package: Path::new("/cache/guest"),
            manifest: &manifest,
            settings: &sample(),
            qemu: &[],
            accel: Accel::Tcg,
            forwards: Forwards { address: std::net::Ipv4Addr::LOCALHOST, mcp: 8000, ssh: 2222 },
            virtiofsd: Some(&Virtiofsd { program, open_files: 1024 }),
            level: plan::LogLevel::Warn,
            confinement: &Confinement::default(),
            ports: &[],
        });
        start_virtiofsd(&daemon.unwrap(), &run, Deadline::after(Duration::from_secs(20))).unwrap();
        let left = with_word(&word);
        assert!(!left.is_empty());
        let marked: Vec<_> = processes_of(machine.path()).iter().map(|process| process.pid).collect();
        assert!(left.iter().all(|pid| !marked.contains(pid)), "{left:?} are among {marked:?}");
        end_processes_of(machine.path());
        assert!(with_word(&word).is_empty());
    }
}
