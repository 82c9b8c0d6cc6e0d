//! The memory of this host, and what its machines may use of it.

use procfs::{Current as _, Meminfo};

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::machine::Machine;
use crate::machine::defaults::Defaults;
use crate::machine::state_dir::StateDir;
use crate::term::text::bytes;

const CHECK: &str = "memory";

/// What is known of the memory, in bytes.
struct Memory {
    all: u64,
    available: u64,
    /// What a new machine gets.
    usual: u64,
    /// The running machines, with their memory.
    running: Vec<(String, u64)>,
}

/// Checks the memory.
pub fn check(_: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let (Ok(info), Ok(defaults)) = (Meminfo::current(), Defaults::load()) else { return Vec::new() };
    let running = machines.iter().filter(|machine| machine.run().qemu().is_some());
    let running = running.filter_map(|one| Some((one.name.to_string(), u64::from(one.settings().ok()?.memory) << 20)));
    let memory = Memory {
        all: info.mem_total,
        available: info.mem_available.unwrap_or(info.mem_free),
        usual: u64::from(defaults.memory) << 20,
        running: running.collect(),
    };
    vec![judge(&memory)]
}

fn judge(memory: &Memory) -> Finding {
    let sum: u64 = memory.running.iter().map(|(_, memory)| memory).sum();
    let (all, available, may) = (bytes(memory.all), bytes(memory.available), bytes(sum));
    let largest = memory.running.iter().max_by_key(|(_, memory)| *memory).filter(|_| sum > memory.all);
    if let Some((machine, of_largest)) = largest {
        return Finding::fault(
            CHECK,
            Fault::MemoryOvercommitted,
            format!("{} running machines may use {may}, this host has {all}", memory.running.len()),
        )
        .with("machine", machine)
        .with("mib", ((of_largest / 2) >> 20).to_string());
    }
    if memory.available < memory.usual {
        return Finding::fault(
            CHECK,
            Fault::MemoryLow,
            format!("{available} of {all} available; a new machine gets {}", bytes(memory.usual)),
        );
    }
    Finding::ok(CHECK, format!("{available} of {all} available"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_judged() {
        let judged = |available: u64, running: &[u64]| {
            let running = running.iter().map(|memory| ("app-main".to_owned(), *memory << 30)).collect();
            judge(&Memory { all: 16 << 30, available: available << 30, usual: 4 << 30, running })
        };
        assert_eq!(judged(8, &[4, 4]).fault, None);
        assert_eq!(judged(3, &[4, 4]).fault, Some(Fault::MemoryLow));
        let over = judged(8, &[4, 8, 8]);
        assert_eq!(over.fault, Some(Fault::MemoryOvercommitted));
        assert_eq!(over.commands.unwrap().debian, "agent-vm set app-main memory=4096");
    }
}
