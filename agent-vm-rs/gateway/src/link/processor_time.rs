//! The processor time of a program and its children.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::Pid;

/// Places in `/proc/PID/stat` after the program's name (proc_pid_stat(5)): its process group, and its own user and system time
/// followed by those of the children that it has waited for.
const GROUP: usize = 2;
const TIMES: std::ops::Range<usize> = 11..15;

/// Returns the processor time that the processes of a group have used; None if `/proc` cannot be read.
pub fn of_group(group: Pid) -> Option<Duration> {
    let group = group.as_raw_nonzero().to_string();
    let times = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        entry.file_name().to_str()?.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name may have any characters, but nothing after it has a parenthesis.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let is_its = fields.get(GROUP) == Some(&group.as_str());
        is_its
            .then(|| fields.get(TIMES).into_iter().flatten().filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
    });
    let milliseconds = times.sum::<u64>().saturating_mul(1_000).checked_div(clock_ticks_per_second())?;
    Some(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    #[test]
    fn the_time_of_a_group_is_that_of_its_processes_and_their_children() {
        let start = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
            let child = command.spawn().unwrap();
            let group = Pid::from_raw(child.id().cast_signed()).unwrap();
            (child, group)
        };
        // The shell's child works, and ends. Control: a group that only waits.
        let work = "(n=0; while [ $n -lt 200000 ]; do n=$((n + 1)); done); echo; read -r _";
        let ((mut busy, works), (mut idle, waits)) = (start(work), start("echo; read -r _"));
        for child in [&mut busy, &mut idle] {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
                .unwrap();
        }
        let (works, waits) = (of_group(works).unwrap(), of_group(waits).unwrap());
        assert!(works >= Duration::from_millis(30) && waits < works / 2, "{works:?}, {waits:?}");
        for mut child in [busy, idle] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
