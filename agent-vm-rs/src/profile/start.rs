//! The phases of a start, and which of them took longest.

use std::time::Duration;

use serde::Serialize;

use super::boot::Boot;
use crate::host::timeline::{Span, Timeline};
use crate::term::table::Columns;

/// Width of the bars in the text, in columns.
const BAR: usize = 24;
/// The phase in which the guest boots.
const BOOTING: &str = "ssh";

/// Where a phase runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// On this host.
    Host,
    /// In the guest, which reports it.
    Guest,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub side: Side,
    /// Milliseconds from the beginning of the command to its beginning.
    pub begin_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// The phases of a start.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// The machine.
    pub machine: String,
    /// How long the command took, in milliseconds.
    pub total_ms: u64,
    /// Its phases, in the order of their beginnings.
    pub phases: Vec<Phase>,
    /// The phase that took longest; null if there was none.
    pub dominant: Option<String>,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the name that people know a phase by.
fn name(span: &str) -> &str {
    if span == "workspace" { "virtiofsd" } else { span }
}

impl Profile {
    /// Returns the profile of a start: the host's phases, and those of the guest's boot with the time at which it reported them.
    #[must_use]
    pub fn new(machine: &str, timeline: &Timeline, boot: Option<(Boot, Duration)>) -> Self {
        Self::of(machine, &timeline.spans(), timeline.now(), boot)
    }

    fn of(machine: &str, spans: &[Span], total: Duration, boot: Option<(Boot, Duration)>) -> Self {
        let mut phases: Vec<_> = spans.iter().map(|span| of_host(&alone(span, spans))).collect();
        if let Some((boot, asked)) = boot {
            phases.extend(of_guest(&boot, asked));
        }
        phases.sort_by_key(|phase| phase.begin_ms);
        let mut profile = Self { machine: machine.to_owned(), total_ms: ms(total), phases, dominant: None };
        profile.dominant = profile.longest().map(|phase| phase.name.clone());
        profile
    }

    /// Returns the phase that took longest. If the guest reports its boot, that counts and not the time waited for it.
    fn longest(&self) -> Option<&Phase> {
        let is_reported = self.phases.iter().any(|phase| phase.side == Side::Guest);
        let counted = self.phases.iter().filter(|phase| !(is_reported && phase.name == BOOTING));
        counted.max_by_key(|phase| phase.took_ms)
    }

    /// Formats it for people.
    #[must_use]
    pub fn to_text(&self, width: Option<usize>) -> String {
        const COLUMNS: Columns<'_, 4> =
            Columns { header: ["PHASE", "BEGIN", "TIME", ""], gives_way: &[(3, 8), (0, 12)], shorten_start: &[] };
        let seconds = |ms: u64| format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10);
        let lines = self.phases.iter().map(|phase| {
            let side = if phase.side == Side::Guest { "guest: " } else { "" };
            [format!("{side}{}", phase.name), seconds(phase.begin_ms), seconds(phase.took_ms), self.bar(phase)]
        });
        let mut text = COLUMNS.format(lines.collect(), width);
        text += &format!("total: {}", seconds(self.total_ms));
        if let Some(longest) = self.longest() {
            let share = longest.took_ms.saturating_mul(100) / self.total_ms.max(1);
            text += &format!("; {} took longest ({}, {share} %)", longest.name, seconds(longest.took_ms));
        }
        text + "\n"
    }

    fn bar(&self, phase: &Phase) -> String {
        let column = |ms: u64| {
            let ms = u128::from(ms.min(self.total_ms));
            usize::try_from(ms * BAR as u128 / u128::from(self.total_ms.max(1))).unwrap_or(BAR)
        };
        let (begin, end) = (column(phase.begin_ms), column(phase.begin_ms.saturating_add(phase.took_ms)));
        " ".repeat(begin.min(BAR - 1)) + &"#".repeat((end - begin).max(1))
    }
}

/// Returns the part of a phase that follows the phases within it.
fn alone(span: &Span, all: &[Span]) -> Span {
    let end = |span: &Span| span.begin + span.took;
    let is_inside = |other: &&Span| other.name != span.name && other.begin >= span.begin && end(other) <= end(span);
    let begin = all.iter().filter(is_inside).map(end).max().unwrap_or(span.begin);
    Span { name: span.name.clone(), begin, took: end(span) - begin }
}

fn of_host(span: &Span) -> Phase {
    Phase { name: name(&span.name).to_owned(), side: Side::Host, begin_ms: ms(span.begin), took_ms: ms(span.took) }
}

/// Places the guest's phases on the host's time: its kernel began its uptime before it was asked.
fn of_guest(boot: &Boot, asked: Duration) -> Vec<Phase> {
    let zero = asked.saturating_sub(boot.uptime);
    let phases = boot.phases().into_iter().map(|(name, begin, took)| Phase {
        name: name.to_owned(),
        side: Side::Guest,
        begin_ms: ms(zero + begin),
        took_ms: ms(took),
    });
    phases.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn span(name: &str, begin: u64, took: u64) -> Span {
        Span { name: name.to_owned(), begin: Duration::from_millis(begin), took: Duration::from_millis(took) }
    }

    pub fn sample() -> Profile {
        let spans = [
            span("settings", 10, 2),
            span("Nix", 30, 3_000),
            span("image", 3_040, 900),
            span("KVM", 4_030, 300),
            span("disk and keys", 4_350, 150),
            span("QEMU", 4_500, 100),
            span("workspace", 4_510, 80),
            span("ssh", 4_600, 9_000),
            span("service", 13_600, 1_200),
            span("MCP", 14_800, 400),
            span("servers", 15_200, 800),
        ];
        let ms = Duration::from_millis;
        let boot = Boot { uptime: ms(11_000), initrd: None, userspace: ms(1_800), finish: Some(ms(10_000)) };
        Profile::of("app-main", &spans, ms(16_100), Some((boot, ms(16_000))))
    }

    #[test]
    fn the_guests_boot_is_placed_on_the_hosts_time() {
        let profile = sample();
        let of = |name: &str| {
            let phase = profile.phases.iter().find(|phase| phase.name == name).unwrap();
            (phase.begin_ms, phase.took_ms)
        };
        assert_eq!((of("kernel"), of("systemd")), ((5_000, 1_800), (6_800, 8_200)));
        assert_eq!(profile.dominant.as_deref(), Some("systemd"));
        assert_eq!((of("virtiofsd"), of("QEMU")), ((4_510, 80), (4_590, 10)), "no time counts twice");
    }

    #[test]
    fn without_the_guests_report_the_wait_for_it_dominates() {
        let profile =
            Profile::of("app-main", &[span("ssh", 0, 900), span("MCP", 900, 50)], Duration::from_secs(1), None);
        assert_eq!(profile.dominant.as_deref(), Some("ssh"));
        assert_eq!(Profile::of("app-main", &[], Duration::ZERO, None).dominant, None);
    }

    #[test]
    fn the_text_shows_what_dominated() {
        insta::assert_snapshot!(sample().to_text(Some(80)));
        assert!(sample().to_text(Some(80)).lines().all(|line| line.len() <= 80));
        assert!(Profile::of("app-main", &[], Duration::ZERO, None).to_text(None).contains("total: 0.00 s"));
    }
}
