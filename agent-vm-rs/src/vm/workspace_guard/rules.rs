//! When a machine may write to its workspace. Pure, so that tests compare values.

use serde::{Deserialize, Serialize};

use crate::machine::limits::Limits;
use crate::machine::number::Number;
use crate::term::text::bytes;

/// Further growth in bytes after which a machine whose writes already fail is paused.
const GOES_ON: u64 = 64 << 20;
/// Share of a limit in percent below which writes are allowed again.
const WELL_BELOW: u64 = 95;
/// Largest space in bytes by which the free space must exceed the limit before writes are allowed again.
const WELL_ABOVE: u64 = 256 << 20;
/// The part of a file system that stays free by default, if that is less than the default.
const SMALL_PART: u64 = 20;
/// Share of the file system's inodes in percent that stay free.
const FREE_INODES: u64 = 2;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Free bytes of the host's file system, for this user.
    pub free: u64,
    /// Size of the host's file system in bytes.
    pub total: u64,
    /// Free inodes of the host's file system, in percent; None if it does not count them.
    pub free_inodes: Option<u64>,
    /// Size of the workspace in bytes, if it was counted.
    pub workspace: Option<u64>,
    /// Bytes that the machine occupies on the host as far as known: its workspace and its disk.
    pub taken: u64,
}

/// A limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The workspace is larger than `workspace_size`.
    WorkspaceSize,
    /// The host's file system has less free space than `keep_free`.
    KeepFree,
    /// The host's file system has few free inodes.
    Inodes,
}

/// What the machine may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Everything.
    #[default]
    Open,
    /// Writes to the workspace fail.
    WritesFail,
    /// It is paused.
    Paused,
}

/// The state of a machine's workspace: what it may do, and since when and why it may not do more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// What the machine may do.
    pub step: Step,
    /// The exceeded limit; None while everything is allowed.
    pub reason: Option<Reason>,
    /// Bytes that the machine occupied when its writes began to fail.
    pub taken: u64,
    /// The exceeded limit in bytes, or in percent of the inodes.
    pub limit: u64,
}

/// Returns the space in bytes that the machine leaves free: what a user set, or the default, which is at most a part of a small
/// file system.
#[must_use]
pub fn least_free(limits: &Limits, total: u64) -> u64 {
    let bytes = |mib: Option<u32>| u64::from(mib.unwrap_or(0)) << 20;
    match limits.asked(Number::KeepFree) {
        Some(mib) => bytes(Some(mib)),
        None => bytes(limits.of(Number::KeepFree)).min(total / SMALL_PART),
    }
}

/// Returns the first exceeded limit, with its value. `margin`: whether the values must be well within the limits again.
fn exceeded(seen: &Seen, limits: &Limits, margin: bool) -> Option<(Reason, u64)> {
    let whole = limits.of(Number::WorkspaceSize).map(|mib| u64::from(mib) << 20);
    let most = whole.map(|most| if margin { most / 100 * WELL_BELOW } else { most });
    let kept = Some(least_free(limits, seen.total)).filter(|least| *least > 0);
    let least = kept.map(|least| if margin { least + (least / 8).min(WELL_ABOVE) } else { least });
    let inodes = if margin { FREE_INODES + 1 } else { FREE_INODES };
    if most.zip(seen.workspace).is_some_and(|(most, size)| size > most) {
        Some((Reason::WorkspaceSize, whole?))
    } else if least.is_some_and(|least| seen.free < least) {
        Some((Reason::KeepFree, kept?))
    } else if least.is_some() && seen.free_inodes.is_some_and(|free| free < inodes) {
        Some((Reason::Inodes, FREE_INODES))
    } else {
        None
    }
}

impl Verdict {
    /// Returns the next verdict. `can_refuse`: whether writes to the workspace can be made to fail on this host.
    #[must_use]
    pub fn next(self, seen: &Seen, limits: &Limits, can_refuse: bool) -> Self {
        let Some((reason, limit)) = exceeded(seen, limits, self.step != Step::Open) else { return Self::default() };
        let taken = if self.step == Step::Open { seen.taken } else { self.taken };
        // A host that others fill stops no machine: only one that grows.
        let goes_on = self.step != Step::Open && seen.taken > taken.saturating_add(GOES_ON);
        let empties = self.step != Step::Open && reason == Reason::Inodes && seen.free_inodes == Some(0);
        let step = if self.step == Step::Paused || goes_on || empties || !can_refuse && reason == Reason::WorkspaceSize
        {
            Step::Paused
        } else {
            Step::WritesFail
        };
        Self { step, reason: Some(reason), taken, limit }
    }

    /// Returns a description of what the machine may not do, and the ways out; None while everything is allowed.
    /// `can_refuse` is as for [`Self::next`].
    #[must_use]
    pub fn problem(&self, name: &str, can_refuse: bool) -> Option<String> {
        let what = match self.step {
            Step::Open => return None,
            Step::WritesFail if can_refuse => "writes to the workspace fail (EFBIG)",
            Step::WritesFail => "the machine is paused if it writes more",
            Step::Paused => "the machine is paused",
        };
        let limit = bytes(self.limit);
        let (why, key, way) = match self.reason? {
            Reason::WorkspaceSize => {
                (format!("the workspace is larger than {limit}"), "workspace_size", "remove files of the workspace")
            }
            Reason::KeepFree => {
                (format!("the host's file system has less than {limit} free"), "keep_free", "free space on the host")
            }
            Reason::Inodes => (
                format!("less than {FREE_INODES} % of the inodes of the host's file system are free"),
                "keep_free",
                "remove files on the host",
            ),
        };
        let value = if key == "keep_free" { "0" } else { "MIB" };
        Some(format!("{what}: {why}; {way}, or agent-vm set {name} {key}={value}; it then goes on by itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limits(workspace_size: Option<u32>, keep_free: u32) -> Limits {
        Limits { workspace_size, keep_free: Some(keep_free), ..Limits::default() }
    }

    fn seen(free: u64, workspace: u64) -> Seen {
        Seen { free, total: 100 * GIB, free_inodes: Some(50), workspace: Some(workspace), taken: workspace }
    }

    #[test]
    fn a_large_workspace_loses_writes_and_then_the_machine_stops() {
        let limits = limits(Some(1024), 0);
        let open = Verdict::default();
        assert_eq!(open.next(&seen(9 * GIB, GIB), &limits, true), open);
        let closed = open.next(&seen(9 * GIB, GIB + 1), &limits, true);
        assert_eq!((closed.step, closed.reason), (Step::WritesFail, Some(Reason::WorkspaceSize)));
        // It stays so until the workspace is well below the limit.
        assert_eq!(closed.next(&seen(9 * GIB, GIB - 1), &limits, true).step, Step::WritesFail);
        assert_eq!(closed.next(&seen(9 * GIB, GIB / 2), &limits, true), open);
        let paused = closed.next(&seen(9 * GIB, GIB + GOES_ON + 2), &limits, true);
        assert_eq!(paused.step, Step::Paused);
        assert_eq!(paused.next(&seen(9 * GIB, GIB + 2), &limits, true).step, Step::Paused);
        assert_eq!(paused.next(&seen(9 * GIB, GIB / 2), &limits, true), open);
        // A new limit is a way out, too.
        let wider = Limits { workspace_size: Some(4096), ..limits.clone() };
        assert_eq!(paused.next(&seen(9 * GIB, GIB + GOES_ON + 2), &wider, true), open);
        // Without virtiofsd, writes cannot fail one by one.
        assert_eq!(open.next(&seen(9 * GIB, GIB + 1), &limits, false).step, Step::Paused);
    }

    #[test]
    fn a_full_host_stops_only_a_machine_that_grows() {
        let limits = limits(None, 1024);
        let closed = Verdict::default().next(&seen(GIB - 1, GIB), &limits, true);
        assert_eq!((closed.step, closed.reason), (Step::WritesFail, Some(Reason::KeepFree)));
        // Others fill the host.
        assert_eq!(closed.next(&seen(0, GIB), &limits, true).step, Step::WritesFail);
        assert_eq!(closed.next(&seen(0, 2 * GIB), &limits, true).step, Step::Paused);
        assert_eq!(closed.next(&seen(GIB, GIB), &limits, true).step, Step::WritesFail);
        assert_eq!(closed.next(&seen(2 * GIB, GIB), &limits, true), Verdict::default());
        let none = Limits { keep_free: Some(0), ..limits };
        assert_eq!(closed.next(&seen(0, 2 * GIB), &none, true), Verdict::default());
    }

    #[test]
    fn inodes_are_counted_where_the_file_system_has_a_number_of_them() {
        let limits = limits(None, 1);
        let few = |free_inodes| Seen { free_inodes, ..seen(9 * GIB, 0) };
        let closed = Verdict::default().next(&few(Some(1)), &limits, true);
        assert_eq!((closed.step, closed.reason), (Step::WritesFail, Some(Reason::Inodes)));
        assert_eq!(closed.next(&few(Some(0)), &limits, true).step, Step::Paused);
        assert_eq!(Verdict::default().next(&few(None), &limits, true), Verdict::default());
    }

    #[test]
    fn a_small_file_system_keeps_a_part_free_by_default() {
        let least = |limits: Limits, total| least_free(&limits, total) >> 20;
        assert_eq!(least(Limits::default(), 100 * GIB), 1024);
        assert_eq!(least(Limits::default(), GIB), 51);
        assert_eq!(least(limits(None, 2048), GIB), 2048);
        assert_eq!(least(limits(None, 0), GIB), 0);
    }

    #[test]
    fn problems_name_the_limit_and_the_way_out() {
        assert_eq!(Verdict::default().problem("app-main", true), None);
        for (reason, limit, said) in [
            (
                Reason::WorkspaceSize,
                GIB / 2,
                "larger than 512.00 MiB; remove files of the workspace, or agent-vm set app-main workspace_size=MIB",
            ),
            (
                Reason::KeepFree,
                GIB,
                "less than 1.00 GiB free; free space on the host, or agent-vm set app-main keep_free=0",
            ),
            (Reason::Inodes, 2, "remove files on the host"),
        ] {
            let verdict = Verdict { step: Step::Paused, reason: Some(reason), taken: 0, limit };
            let problem = verdict.problem("app-main", true).unwrap();
            assert!(problem.starts_with("the machine is paused: ") && problem.contains(said), "{problem}");
        }
    }
}
