//! One look at a machine's processes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use procfs::process::Process as Proc;

use crate::host::process::{ProcessId, Usage};
use crate::machine::Machine;
use crate::machine::helpers;
use crate::machine::paths::MachinePath;
use crate::term::error::Failure;
use crate::term::text::one_line;
use crate::vm::qmp::{self, Figures};

/// Name of the process that confines the egress proxy.
const PROXY: &str = "egress proxy";
/// Most threads of a process that are looked at.
const MOST: usize = 512;

/// A thread.
#[derive(Clone, Debug)]
pub struct Thread {
    pub name: String,
    /// Its id in the innermost pid namespace.
    pub inner: i32,
    pub cpu: Duration,
}

/// A process, with its threads by id.
#[derive(Clone, Debug)]
pub struct Process {
    pub name: &'static str,
    pub pid: i32,
    pub usage: Usage,
    pub threads: BTreeMap<i32, Thread>,
}

/// What a machine's processes have used until now.
#[derive(Clone, Debug)]
pub struct Look {
    pub time: Instant,
    pub processes: Vec<Process>,
    /// None if QEMU does not answer.
    pub figures: Option<Figures>,
}

impl Look {
    /// Looks at the processes of a running machine.
    pub fn at(machine: &Machine) -> Result<Self> {
        let run = machine.run();
        let name = &machine.name;
        if run.qemu().is_none() {
            helpers::check_qemu(machine).context(Failure::new(format!("cannot profile {name}")))?;
        }
        let read = |file: MachinePath| ProcessId::read(&run.file(file));
        let all = [
            ("QEMU", run.qemu()),
            ("virtiofsd", run.virtiofsd()),
            (PROXY, read(MachinePath::ProxyPid)),
            ("egress tunnel", read(MachinePath::TunnelPid)),
            ("MCP forwarder", read(MachinePath::ForwardMcpPid)),
            ("ssh forwarder", read(MachinePath::ForwardSshPid)),
            ("port forwarding", read(MachinePath::ForwardsPid)),
            ("console log", read(MachinePath::RunConsoleKeeperPid)),
        ];
        let processes = all.into_iter().filter_map(|(name, id)| {
            // The recorded process only confines the proxy.
            if name == PROXY { process_tree(name, &id?) } else { process(name, &id?) }
        });
        let processes = processes.collect();
        let figures = qmp::figures(&run);
        if let Err(error) = &figures {
            tracing::warn!("{error:#}");
        }
        Ok(Self { time: Instant::now(), processes, figures: figures.ok() })
    }

    /// Returns a thread's name for people.
    pub fn name_of(&self, process: &Process, id: i32, name: &str) -> String {
        let inner = process.threads.get(&id).map(|thread| thread.inner);
        let processors = self.figures.as_ref().map(|figures| figures.processors.as_slice()).unwrap_or_default();
        let processor = processors.iter().position(|thread| process.name == "QEMU" && Some(*thread) == inner);
        match processor {
            Some(number) => format!("vCPU {number}"),
            None if id == process.pid => "main".to_owned(),
            None => name.to_owned(),
        }
    }
}

/// Returns a process together with its descendants.
fn process_tree(name: &'static str, id: &ProcessId) -> Option<Process> {
    let mut all = process(name, id)?;
    let mut left = id.children();
    while let Some(child) = left.pop().filter(|_| all.threads.len() < MOST) {
        left.extend(child.children());
        if let Some(child) = process(name, &child) {
            all.threads.extend(child.threads);
        }
    }
    all.usage = id.usage_of_tree()?;
    Some(all)
}

fn process(name: &'static str, id: &ProcessId) -> Option<Process> {
    let usage = id.usage_with_io()?;
    let tasks = Proc::new(id.pid).and_then(|process| process.tasks()).ok()?;
    let ticks = procfs::ticks_per_second();
    let threads = tasks.flatten().take(MOST).filter_map(|task| {
        let stat = task.stat().ok()?;
        let inner = task.status().ok().and_then(|status| status.nspid?.last().copied()).unwrap_or(task.tid);
        let cpu = Duration::from_millis((stat.utime + stat.stime) * 1_000 / ticks.max(1));
        Some((task.tid, Thread { name: one_line(&stat.comm), inner, cpu }))
    });
    Some(Process { name, pid: id.pid, usage, threads: threads.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shell waits for its child, which is the program that counts.
    #[test]
    fn descendants_are_part_of_a_tree() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 300 & wait"]).spawn().unwrap();
        let id = ProcessId::of(i32::try_from(shell.id()).unwrap()).unwrap();
        let deadline = crate::host::interrupt::Deadline::after(Duration::from_secs(20));
        let is_there = || process_tree(PROXY, &id).unwrap().threads.values().any(|thread| thread.name == "sleep");
        let seen = deadline.poll("the child", Duration::from_millis(2), || Ok(is_there().then_some(())));
        assert_eq!(process(PROXY, &id).unwrap().threads.len(), 1, "control");
        id.children().iter().for_each(|child| child.signal(rustix::process::Signal::KILL));
        shell.wait().unwrap();
        seen.unwrap();
    }

    #[test]
    fn the_threads_of_a_process_are_seen() {
        let (sender, waiting) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("a-thread".to_owned());
        let named = move || begun.send(()).map(|()| waiting.recv());
        let thread = thread
            .spawn(move || {
                let _ = named();
            })
            .unwrap();
        begins.recv().unwrap();
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let seen = process("QEMU", &own).unwrap();
        assert!(seen.threads.values().any(|thread| thread.name == "a-thread"), "{:?}", seen.threads);
        assert!(seen.threads.contains_key(&own.pid) && seen.usage.memory > 0);
        drop(sender);
        thread.join().unwrap();
    }
}
