//! The report for people.

use super::Report;
use super::finding::Finding;
use super::level::Level;
use super::system::System;
use crate::term::text::count;

/// Columns of a level, and of the name of a check.
const LEVEL: usize = 9;
const CHECK: usize = 14;

impl Report {
    /// Formats the report. Without `whole`, a machine without faults has one line.
    #[must_use]
    pub fn to_text(&self, whole: bool) -> String {
        let mut text = format!("Host ({})\n", self.system.map_or("another distribution", System::name));
        for found in self.findings.iter().filter(|found| found.machine.is_none()) {
            text += &self.lines(found);
        }
        let of_machines: Vec<_> = self.findings.iter().filter(|found| found.machine.is_some()).collect();
        for findings in of_machines.chunk_by(|one, other| one.machine == other.machine) {
            let name = findings.first().and_then(|found| found.machine.as_deref()).unwrap_or_default();
            text += &format!("Machine {name}\n");
            let shown: Vec<_> = findings.iter().filter(|found| whole || found.level != Level::Ok).collect();
            if shown.is_empty() {
                text += &line(Level::Ok, "", &count(findings.len(), "check"));
            }
            text.extend(shown.into_iter().map(|found| self.lines(found)));
        }
        text + &self.summary() + "\n"
    }

    fn summary(&self) -> String {
        let of = |level| self.findings.iter().filter(|found| found.level == level).count();
        format!("{}, {}", count(of(Level::Error), "error"), count(of(Level::Warning), "warning"))
    }

    fn lines(&self, found: &Finding) -> String {
        let mut lines = line(found.level, found.check, &found.message);
        let Some(commands) = &found.commands else { return lines };
        let indent = " ".repeat(2 + LEVEL + CHECK);
        match self.system {
            Some(system) => lines += &format!("{indent}fix: {}\n", commands.of(system)),
            None => {
                for system in [System::Nixos, System::Debian, System::Fedora, System::Arch] {
                    lines += &format!("{indent}fix on {}: {}\n", system.name(), commands.of(system));
                }
            }
        }
        lines
    }
}

fn line(level: Level, check: &str, message: &str) -> String {
    format!("  {:LEVEL$}{check:CHECK$}{message}\n", level.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fault::Fault;

    fn report(system: Option<System>) -> Report {
        let findings = vec![
            Finding::ok("qemu", "QEMU emulator version 10.0.2"),
            Finding::fault("virtiofsd", Fault::VirtiofsdUnusable, "virtiofsd is not installed"),
            Finding::ok("settings", "main").of_machine("app-dev"),
            Finding::ok("keys", "only their owner can read them").of_machine("app-dev"),
            Finding::ok("settings", "main").of_machine("app-main"),
            Finding::fault("disk", Fault::DiskDamaged, "it is truncated").of_machine("app-main"),
        ];
        Report { system, ok: false, findings }
    }

    #[test]
    fn the_command_of_this_system_is_shown() {
        insta::assert_snapshot!(report(Some(System::Debian)).to_text(false));
        insta::assert_snapshot!("whole_on_another_system", report(None).to_text(true));
    }

    #[test]
    fn json_has_the_commands_of_all_systems() {
        let json = serde_json::to_value(report(Some(System::Arch))).unwrap();
        assert_eq!(json["system"], "arch");
        assert_eq!(json["findings"][1]["fault"], "virtiofsd-unusable");
        assert_eq!(json["findings"][1]["commands"]["fedora"], "sudo dnf install virtiofsd");
        assert_eq!(json["findings"][5]["commands"]["debian"], "agent-vm start app-main --new-disk");
        assert!(json["findings"][0]["commands"].is_null());
    }
}
