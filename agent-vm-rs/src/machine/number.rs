//! Settings that are numbers: how they are read, and their ranges.

use crate::machine::defaults::{Defaults, Range};
use crate::machine::limit_policy::limit_policy;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// A setting that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Guest memory, MiB.
    Memory,
    /// Virtual CPUs.
    Cores,
    /// Size of the machine's own disk, MiB.
    Disk,
    /// Host port of MCP.
    Port,
    /// Host port of ssh.
    SshPort,
    /// Processor time on the host, percent of one core.
    CpuQuota,
    /// Processes and threads on the host.
    Pids,
    /// Disk operations a second.
    DiskIops,
    /// Disk transfers, bytes a second.
    DiskBandwidth,
    /// Network transfers in each direction, bytes a second.
    NetworkBandwidth,
    /// Size of the workspace, MiB.
    WorkspaceSize,
    /// Space that stays free on the host's file system, MiB.
    KeepFree,
}

const PORTS: Range = Range { least: 1, most: 65_535 };
/// Units with which other programs accept sizes, in bytes.
const UNITS: [(&str, u64); 4] = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];

impl Number {
    const OTHERS: [Self; 5] = [Self::Memory, Self::Cores, Self::Disk, Self::Port, Self::SshPort];

    /// The limits of [`crate::machine::limits::Limits`].
    pub const LIMITS: [Self; 7] = [
        Self::CpuQuota,
        Self::Pids,
        Self::DiskIops,
        Self::DiskBandwidth,
        Self::NetworkBandwidth,
        Self::WorkspaceSize,
        Self::KeepFree,
    ];

    /// Returns the setting with this name; None if it is not a number.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::OTHERS.into_iter().chain(Self::LIMITS).find(|number| number.name() == name)
    }

    /// Returns the setting's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cores => "cores",
            Self::Disk => "disk",
            Self::Port => "port",
            Self::SshPort => "ssh_port",
            Self::CpuQuota => "cpu_quota",
            Self::Pids => "pids",
            Self::DiskIops => "disk_iops",
            Self::DiskBandwidth => "disk_bandwidth",
            Self::NetworkBandwidth => "network_bandwidth",
            Self::WorkspaceSize => "workspace_size",
            Self::KeepFree => "keep_free",
        }
    }

    fn range(self) -> Result<Range, Failure> {
        if let Some(policy) = limit_policy(self.name()) {
            return Ok(Range { least: policy.least, most: policy.most });
        }
        let bounds = || Defaults::load().map(|defaults| defaults.bounds).map_err(|e| Failure::new(format!("{e:#}")));
        Ok(match self {
            Self::Memory => bounds()?.memory,
            Self::Cores => bounds()?.cores,
            Self::Disk => bounds()?.disk,
            _ => PORTS,
        })
    }

    /// Returns the unit of a size in bytes; None for what is not a size.
    fn unit(self) -> Option<u64> {
        match self {
            Self::Memory | Self::Disk | Self::WorkspaceSize | Self::KeepFree => Some(1 << 20),
            Self::DiskBandwidth | Self::NetworkBandwidth => Some(1),
            _ => None,
        }
    }

    fn is_in_mib(self) -> bool {
        self.unit() == Some(1 << 20)
    }

    /// Returns a value with its unit, such as `4096 MiB`.
    #[must_use]
    pub fn with_unit(self, value: u64) -> String {
        match limit_policy(self.name()) {
            Some(policy) => format!("{value} {}", policy.unit),
            None if self.is_in_mib() => format!("{value} MiB"),
            None => value.to_string(),
        }
    }

    /// Describes the values, such as `a number of MiB from 256 to 4194304`.
    #[must_use]
    pub fn takes(self) -> String {
        let what = match (self, limit_policy(self.name())) {
            (_, Some(policy)) => &format!("a number of {}", policy.unit),
            (Self::Memory | Self::Disk, _) => "a number of MiB",
            (Self::Port | Self::SshPort, _) => "a port",
            _ => "a number",
        };
        let range = self.range().map_or_else(|_| String::new(), |r| format!(" from {} to {}", r.least, r.most));
        what.to_owned() + &range
    }

    /// Parses a value of the command line. [`Number::check`] checks its range.
    ///
    /// # Errors
    /// It is not a whole number.
    pub fn parse(self, text: &str) -> Result<u32, Failure> {
        text.parse().map_err(|_| {
            let name = self.name();
            let percent = text.strip_suffix('%').and_then(|text| text.parse().ok()).filter(|_| self == Self::CpuQuota);
            let meant = self.in_unit(text).or(percent);
            let meant = meant.map_or_else(String::new, |meant| format!("write {meant} for {text}: "));
            let is_limit = self != Self::KeepFree && Self::LIMITS.contains(&self);
            Failure::usage(format!("{name} must be a whole number, not {:?}", one_line(text))).with_hint(
                match text == "none" && is_limit {
                    true => format!("to remove the limit: agent-vm set --unset {name}"),
                    false => format!("{meant}{name} takes {}", self.takes()),
                },
            )
        })
    }

    /// Parses a port of the command line.
    ///
    /// # Errors
    /// It is not a port.
    pub fn parse_port(self, text: &str) -> Result<u16, Failure> {
        let port = self.parse(text)?;
        self.check(port)?;
        u16::try_from(port).map_err(|_| self.outside(port, PORTS))
    }

    /// Checks that a value is in the range.
    ///
    /// # Errors
    /// It is not.
    pub fn check(self, value: u32) -> Result<(), Failure> {
        let range = self.range()?;
        if (range.least..=range.most).contains(&value) { Ok(()) } else { Err(self.outside(value, range)) }
    }

    fn outside(self, value: u32, Range { least, most }: Range) -> Failure {
        let unit = if self.is_in_mib() { " MiB" } else { "" };
        let name = self.name();
        // A user who writes 8 for memory means GiB.
        let gib = value.checked_mul(1 << 10).filter(|mib| self.is_in_mib() && (least..=most).contains(mib));
        let hint = match gib.filter(|_| (1..least).contains(&value)) {
            Some(mib) => format!("the unit is MiB: write {mib} for {value} GiB"),
            None => format!("{name} takes {}", self.takes()),
        };
        Failure::usage(format!("{name} must be from {least} to {most}{unit}, not {value}")).with_hint(hint)
    }

    /// Returns a size with a unit, such as `2G`, in the unit of this setting; None if it has none or is outside the range.
    fn in_unit(self, text: &str) -> Option<u32> {
        let own = self.unit()?;
        let upper = text.to_ascii_uppercase();
        let plain = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| plain.ends_with(unit))?;
        let number: u64 = plain.strip_suffix(unit)?.trim_end().parse().ok()?;
        let bytes = number.checked_mul(factor).filter(|bytes| bytes.is_multiple_of(own))?;
        let size = u32::try_from(bytes / own).ok()?;
        self.check(size).ok().map(|()| size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_range_and_the_unit() {
        let wrong = |number: Number, text: &str| {
            let error = number.parse(text).and_then(|value| number.check(value)).unwrap_err();
            (error.to_string(), error.hint().unwrap().to_owned())
        };
        let takes = "memory takes a number of MiB from 256 to 4194304";
        for (text, size) in
            [("2G", "write 2048 for 2G: "), ("2 GiB", "write 2048 for 2 GiB: "), ("512mb", "write 512 for 512mb: ")]
        {
            assert_eq!(wrong(Number::Memory, text).1, format!("{size}{takes}"));
        }
        for text in ["", "x", "G", "-1", "1.5", "10M", "9999999T", "99999999999999999999G", "2K"] {
            assert_eq!(wrong(Number::Memory, text).1, takes, "{text}");
        }
        assert_eq!(
            wrong(Number::Memory, "10"),
            ("memory must be from 256 to 4194304 MiB, not 10".into(), "the unit is MiB: write 10240 for 10 GiB".into())
        );
        assert_eq!(wrong(Number::Memory, "0").1, takes);
        assert_eq!(
            wrong(Number::Cores, "1000"),
            ("cores must be from 1 to 255, not 1000".into(), "cores takes a number from 1 to 255".into())
        );
        assert_eq!(wrong(Number::Port, "80000").0, "port must be from 1 to 65535, not 80000");
        assert_eq!(wrong(Number::Cores, "2G").1, "cores takes a number from 1 to 255");
        assert_eq!(Number::Port.parse_port("8000").unwrap(), 8000);
        assert!(Number::Port.parse_port("0").is_err() && Number::Port.parse_port("65536").is_err());
        assert_eq!(Number::Disk.parse("20480").unwrap(), 20480);
        let takes = "disk_bandwidth takes a number of bytes a second from 65536 to 4294967295";
        assert_eq!(wrong(Number::DiskBandwidth, "10M").1, format!("write 10485760 for 10M: {takes}"));
        assert_eq!(wrong(Number::DiskBandwidth, "1").1, takes);
        let takes = "cpu_quota takes a number of percent from 5 to 25500";
        assert_eq!(wrong(Number::CpuQuota, "150%").1, format!("write 150 for 150%: {takes}"));
        assert_eq!(wrong(Number::CpuQuota, "%").1, takes);
        assert_eq!(wrong(Number::Pids, "none").1, "to remove the limit: agent-vm set --unset pids");
        assert!(wrong(Number::Memory, "none").1.starts_with("memory takes"), "control");
        assert_eq!(wrong(Number::WorkspaceSize, "10").1, "the unit is MiB: write 10240 for 10 GiB");
    }
}
