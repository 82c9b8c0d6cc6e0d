//! The report for people.

use super::Report;
use crate::term::table::Columns;
use crate::term::text::bytes;

const PROCESSES: Columns<'_, 5> =
    Columns { header: ["PROCESS", "CPU", "MEMORY", "READ", "WRITTEN"], gives_way: &[(0, 12)], shorten_start: &[] };
const THREADS: Columns<'_, 3> = Columns { header: ["THREAD", "OF", "CPU"], gives_way: &[(0, 12)], shorten_start: &[] };
const DISKS: Columns<'_, 7> = Columns {
    header: ["DISK", "READ", "WRITTEN", "READS", "WRITES", "MEAN READ", "MEAN WRITE"],
    gives_way: &[(0, 12)],
    shorten_start: &[0],
};

fn percent(share: f64) -> String {
    format!("{share:.1} %")
}

impl Report {
    /// Formats the report as tables.
    #[must_use]
    pub fn to_text(&self, width: Option<usize>) -> String {
        let size = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), bytes);
        let time = |us: Option<u64>| {
            us.map_or_else(|| "-".to_owned(), |us| format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10))
        };
        let processes = self.processes.iter().map(|one| {
            [
                one.name.to_owned(),
                percent(one.cpu_percent),
                bytes(one.memory_bytes),
                size(one.read_bytes),
                size(one.written_bytes),
            ]
        });
        let mut text = format!("{} for {:.1} s\n\n", self.machine, self.seconds);
        text += &PROCESSES.format(processes.collect(), width);
        let threads = self.threads.iter();
        let threads: Vec<_> =
            threads.map(|one| [one.name.clone(), one.process.to_owned(), percent(one.cpu_percent)]).collect();
        text += &match threads.is_empty() {
            true => "\nno thread used the processor\n".to_owned(),
            false => format!("\n{}", THREADS.format(threads, width)),
        };
        let Some(disks) = &self.disks else { return text + "\nQEMU did not report its disks\n" };
        let disks = disks.iter().map(|one| {
            [
                one.name.clone(),
                bytes(one.read_bytes),
                bytes(one.written_bytes),
                one.reads.to_string(),
                one.writes.to_string(),
                time(one.read_us),
                time(one.write_us),
            ]
        });
        text + "\n" + &DISKS.format(disks.collect(), width)
    }
}
