//! The boot of the guest, as the guest reports it. The guest is not trusted: its numbers are bounded and only shown.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::host::timeline::Timeline;
use crate::remote::ssh::Ssh;

/// Time for the guest's answer. An emulated guest is still busy with its start.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest boot that is believed.
const LONGEST: Duration = Duration::from_secs(3_600);
/// What is asked for: microseconds since the guest's kernel began.
const PROPERTIES: [&str; 3] = ["InitRDTimestampMonotonic", "UserspaceTimestampMonotonic", "FinishTimestampMonotonic"];

/// Times of a boot, since the guest's kernel began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// When the host asked, in the host's time since the command began, the guest's kernel ran for this long.
    pub uptime: Duration,
    /// When the initrd began, if there is one.
    pub initrd: Option<Duration>,
    /// When systemd began.
    pub userspace: Duration,
    /// When systemd had started everything; None if it still does.
    pub finish: Option<Duration>,
}

/// Asks a guest for the times of its boot. Returns them with the time on the host's timeline at which it answered.
///
/// # Errors
/// It does not answer, or with something else.
pub fn ask(ssh: &Ssh<'_>, timeline: &Timeline) -> Result<(Boot, Duration)> {
    let script = format!("cat /proc/uptime && systemctl show --property={}", PROPERTIES.join(","));
    let begin = timeline.now();
    let answer = ssh.read(&script, ANSWER)?;
    let boot = Boot::parse(&answer).context("the guest reports no times of its boot")?;
    // The guest read its clock at about half of this time.
    let asked = begin + timeline.now().saturating_sub(begin) / 2;
    Ok((boot, asked))
}

impl Boot {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let seconds: f64 = lines.next()?.split_whitespace().next()?.parse().ok()?;
        let uptime = Duration::try_from_secs_f64(seconds).ok().filter(|uptime| *uptime <= LONGEST)?;
        let fields: BTreeMap<_, _> = lines.filter_map(|line| line.trim().split_once('=')).collect();
        let at = |name: &str| {
            let micros: u64 = fields.get(name)?.parse().ok()?;
            Some(Duration::from_micros(micros)).filter(|at| *at <= uptime && !at.is_zero())
        };
        let userspace = at(PROPERTIES[1])?;
        Some(Self {
            uptime,
            initrd: at(PROPERTIES[0]).filter(|at| *at <= userspace),
            userspace,
            finish: at(PROPERTIES[2]).filter(|at| *at >= userspace),
        })
    }

    /// Returns the phases as times since the guest's kernel began: name, begin and length.
    #[must_use]
    pub fn phases(&self) -> Vec<(&'static str, Duration, Duration)> {
        let kernel = self.initrd.unwrap_or(self.userspace);
        let end = self.finish.unwrap_or(self.uptime);
        let initrd = self.initrd.map(|begin| ("initrd", begin, self.userspace.saturating_sub(begin)));
        std::iter::once(("kernel", Duration::ZERO, kernel))
            .chain(initrd)
            .chain([("systemd", self.userspace, end.saturating_sub(self.userspace))])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = "12.50 20.11\nInitRDTimestampMonotonic=0\nUserspaceTimestampMonotonic=1500000\nFinishTimestampMonotonic=9250000\n";

    #[test]
    fn a_boot_has_the_phases_that_systemd_reports() {
        let boot = Boot::parse(ANSWER).unwrap();
        let ms = |ms| Duration::from_millis(ms);
        assert_eq!(boot.phases(), [("kernel", ms(0), ms(1_500)), ("systemd", ms(1_500), ms(7_750))]);
        let with_initrd = ANSWER.replace("InitRDTimestampMonotonic=0", "InitRDTimestampMonotonic=500000");
        let names: Vec<_> = Boot::parse(&with_initrd).unwrap().phases().iter().map(|phase| phase.0).collect();
        assert_eq!(names, ["kernel", "initrd", "systemd"]);
        // A boot that goes on lasts until now.
        let boot = Boot::parse(&ANSWER.replace("FinishTimestampMonotonic=9250000", "FinishTimestampMonotonic=0"));
        assert_eq!(boot.unwrap().phases()[1].2, ms(11_000));
    }

    #[test]
    fn numbers_out_of_bounds_are_not_believed() {
        for hostile in [
            "",
            "1e308 1\nUserspaceTimestampMonotonic=1\n",
            "-1 1\nUserspaceTimestampMonotonic=1\n",
            "nan 1\nUserspaceTimestampMonotonic=1\n",
            "12 1\nUserspaceTimestampMonotonic=99999999999999999999\n",
            "12 1\nUserspaceTimestampMonotonic=18446744073709551615\n",
            "12 1\nUserspaceTimestampMonotonic=13000000\n",
        ] {
            assert_eq!(Boot::parse(hostile), None, "{hostile}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics_and_phases_are_within_the_uptime(text in "([0-9.]{0,6} [0-9]\n)?(InitRDTimestampMonotonic=[0-9]{0,9}\n)?(UserspaceTimestampMonotonic=[0-9]{0,9}\n)?(FinishTimestampMonotonic=[0-9]{0,9}\n)?") {
            if let Some(boot) = Boot::parse(&text) {
                for (_, begin, took) in boot.phases() {
                    prop_assert!(begin + took <= boot.uptime);
                }
            }
        }
    }
}
