//! Waiting for processes, finding those of a machine, and ending them.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Longest time to wait for one condition on a busy host.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Waits until a condition holds; panics after the time limit.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !so() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal; a process that has already ended is not an error.
pub fn kill(pid: u32, signal: Signal) {
    let _ = kill_process(id(pid), signal);
}

/// Returns whether a process exists.
pub fn exists(pid: u32) -> bool {
    test_kill_process(id(pid)).is_ok()
}

/// Suspends a process, and waits until it is suspended.
#[track_caller]
pub fn suspend(pid: u32) {
    kill(pid, Signal::STOP);
    wait_until("a process to be suspended", || state(pid) == Some('T'));
}

/// Kills a process, and waits until it runs no more. Its parent may not know yet.
#[track_caller]
pub fn end(pid: u32) {
    kill(pid, Signal::KILL);
    wait_until("a process to end", || state(pid).is_none_or(|state| state == 'Z'));
}

/// Returns the letter of a process's state (proc_pid_stat(5)); None if there is no such process.
fn state(pid: u32) -> Option<char> {
    // The name of the program is in parentheses, and may have more of them.
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit_once(") ")?.1.chars().next()
}

fn id(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Returns the processes that have the marker of a machine below `root` in their environment, with their command lines.
pub fn marked_below(root: &Path) -> Vec<(u32, String)> {
    let marker = format!("AGENT_VM_MACHINE={}", root.display());
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| environment(*pid).split(|byte| *byte == 0).any(|word| word.starts_with(marker.as_bytes())))
        .map(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&words).replace('\0', " "))
        })
        .collect()
}

/// Returns a process's environment. It is empty if the process has ended or belongs to the kernel; it is also empty for
/// a moment during exec(2), which this waits for.
fn environment(pid: u32) -> Vec<u8> {
    let end = Instant::now() + Duration::from_millis(20);
    loop {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // Kernel threads and zombies have no program.
        let has_program = fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        if !environ.is_empty() || !has_program || Instant::now() > end {
            return environ;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A child process that is killed when the test ends.
pub struct Running(Option<Child>);

impl Running {
    /// Takes ownership of a child process.
    pub fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Returns whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for a line of its output, which [`Self::output`] does not return again.
    pub fn line(&mut self) -> String {
        let output = self.0.as_mut().unwrap().stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && output.read(&mut byte).unwrap() == 1 {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Waits until it has ended and returns its output.
    pub fn output(mut self) -> Output {
        wait_until("a command to end", || self.ended());
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
