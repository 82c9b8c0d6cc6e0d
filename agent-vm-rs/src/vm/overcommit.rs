//! Warns when the running machines together may need more than this host has.

use procfs::{Current as _, Meminfo};

use crate::host::process::ProcessId;
use crate::host::system;
use crate::machine::Machine;
use crate::machine::settings::Settings;
use crate::term::text::bytes;

/// Number of virtual CPUs for each core of the host above which machines slow each other down much.
const MANY: u32 = 4;

/// What one machine has, and how much of its memory it uses already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    memory: u64,
    used: u64,
    cores: u32,
}

impl Uses {
    fn of(settings: &Settings, qemu: Option<&ProcessId>) -> Self {
        let used = qemu.and_then(ProcessId::usage).map_or(0, |(memory, _)| memory);
        Self { memory: u64::from(settings.memory) << 20, used, cores: settings.cores }
    }
}

/// Returns warnings about the memory and cores of the running machines together with this one, which runs or may be started.
#[must_use]
pub fn warnings(machine: &Machine, settings: &Settings) -> Vec<String> {
    let names = machine.state.names().unwrap_or_default().into_iter().filter(|name| *name != machine.name);
    let running = names.map(|name| Machine::new(&machine.state, name)).filter_map(|other| {
        let qemu = other.run().qemu()?;
        Some(Uses::of(&other.settings().ok()?, Some(&qemu)))
    });
    let own = Uses::of(settings, machine.run().qemu().as_ref());
    let available = Meminfo::current().ok().and_then(|memory| memory.mem_available);
    texts(machine.name.as_str(), own, &running.collect::<Vec<_>>(), available, system::cores())
}

fn texts(name: &str, own: Uses, running: &[Uses], available: Option<u64>, host_cores: u32) -> Vec<String> {
    let mut texts = Vec::new();
    let more = |uses: &Uses| uses.memory.saturating_sub(uses.used);
    let others: u64 = running.iter().map(more).sum();
    let needed = others + more(&own);
    if let Some(available) = available.filter(|available| needed > *available) {
        let with_others = if running.is_empty() {
            String::new()
        } else {
            format!(" and {} more for {}", bytes(others), machines(running.len()))
        };
        texts.push(format!(
            "warning: this host has {} of memory available, less than {} for {name}{with_others}: if they use it all, the \
             kernel ends processes; agent-vm set {name} memory=MIB lowers it",
            bytes(available),
            bytes(more(&own)),
        ));
    }
    let cores = running.iter().map(|uses| uses.cores).sum::<u32>() + own.cores;
    if !running.is_empty() && cores > MANY.saturating_mul(host_cores) {
        texts.push(format!(
            "warning: {name} and {} have {cores} virtual CPUs together, this host has {host_cores}: they slow each other down",
            machines(running.len())
        ));
    }
    texts
}

fn machines(count: usize) -> String {
    format!("{count} other running {}", if count == 1 { "machine" } else { "machines" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn machines_that_need_more_than_the_host_has_are_reported_with_numbers() {
        let uses = |memory: u64, used: u64, cores| Uses { memory: memory * GIB, used: used * GIB, cores };
        let texts = |own, running: &[Uses], available: u64| texts("app-main", own, running, Some(available * GIB), 2);
        assert!(texts(uses(4, 0, 2), &[uses(4, 3, 2)], 5).is_empty());
        let warned = texts(uses(4, 0, 2), &[uses(4, 1, 2), uses(8, 8, 2)], 6);
        assert_eq!(warned.len(), 1);
        for said in
            ["has 6.00 GiB of memory available", "less than 4.00 GiB for app-main and 3.00 GiB more for 2 other"]
        {
            assert!(warned[0].contains(said), "{warned:?}");
        }
        assert!(texts(uses(4, 0, 2), &[], 3)[0].contains("less than 4.00 GiB for app-main: if"));
        // What a machine uses already is no longer available.
        assert!(texts(uses(4, 4, 2), &[], 0).is_empty());
        assert!(texts(uses(1, 0, 8), &[], 9).is_empty());
        assert!(texts(uses(1, 0, 2), &[uses(1, 0, 6)], 9).is_empty());
        let warned = texts(uses(1, 0, 4), &[uses(1, 0, 5)], 9);
        assert!(
            warned[0].contains("1 other running machine have 9 virtual CPUs together, this host has 2"),
            "{warned:?}"
        );
    }

    #[test]
    fn unknown_memory_is_not_reported() {
        assert!(texts("app-main", Uses { memory: GIB, ..Uses::default() }, &[], None, 1).is_empty());
    }
}
