//! Limits of what a machine may use of this host, beside its memory, cores and disk. Their ranges and defaults are policy.

use serde::{Deserialize, Serialize};

use crate::machine::limit_policy::limit_policy;
use crate::machine::number::Number;

/// The limits that a user set; None is the policy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time, in percent of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<u32>,
    /// Processes and threads on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Disk operations a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_iops: Option<u32>,
    /// Disk transfers, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bandwidth: Option<u32>,
    /// Network transfers in each direction, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bandwidth: Option<u32>,
    /// Size of the workspace, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_size: Option<u32>,
    /// Space that the machine leaves free on the host's file system, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_free: Option<u32>,
}

impl Limits {
    fn field(&mut self, limit: Number) -> Option<&mut Option<u32>> {
        Some(match limit {
            Number::CpuQuota => &mut self.cpu_quota,
            Number::Pids => &mut self.pids,
            Number::DiskIops => &mut self.disk_iops,
            Number::DiskBandwidth => &mut self.disk_bandwidth,
            Number::NetworkBandwidth => &mut self.network_bandwidth,
            Number::WorkspaceSize => &mut self.workspace_size,
            Number::KeepFree => &mut self.keep_free,
            Number::Memory | Number::Cores | Number::Disk | Number::Port | Number::SshPort => return None,
        })
    }

    /// Returns the value that was set.
    #[must_use]
    pub fn asked(&self, limit: Number) -> Option<u32> {
        *self.clone().field(limit)?
    }

    /// Returns the limit: the value that was set, or the default; None for no limit.
    #[must_use]
    pub fn of(&self, limit: Number) -> Option<u32> {
        self.asked(limit).or(limit_policy(limit.name())?.default)
    }

    /// Sets a limit, or resets it to its default. Other numbers are ignored.
    pub fn set(&mut self, limit: Number, value: Option<u32>) {
        if let Some(field) = self.field(limit) {
            *field = value;
        }
    }

    /// Returns these limits, with `other`'s where this one has none.
    #[must_use]
    pub fn or(mut self, other: &Self) -> Self {
        for limit in Number::LIMITS {
            self.set(limit, self.asked(limit).or(other.asked(limit)));
        }
        self
    }

    /// Returns the limits that were set, with their values.
    pub fn all_asked(&self) -> impl Iterator<Item = (Number, u32)> {
        Number::LIMITS.into_iter().filter_map(|limit| Some((limit, self.asked(limit)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_policy_and_a_field() {
        for limit in Number::LIMITS {
            let policy = limit_policy(limit.name()).unwrap();
            assert!(policy.least < policy.most && !policy.help.is_empty(), "{policy:?}");
            assert!(policy.default.is_none_or(|default| (policy.least..=policy.most).contains(&default)), "{policy:?}");
            let mut limits = Limits::default();
            assert_eq!(limits.of(limit), policy.default);
            limits.set(limit, Some(policy.most));
            assert_eq!((limits.of(limit), limits.all_asked().count()), (Some(policy.most), 1), "{}", limit.name());
            let text = serde_json::to_value(&limits).unwrap();
            assert_eq!(text, serde_json::json!({ limit.name(): policy.most }));
        }
    }
}
