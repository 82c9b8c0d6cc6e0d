//! The flags of `agent-vm create` that limit what a machine may use of this host.

use clap::Args;

use crate::machine::limit_policy::limit_policy;
use crate::machine::limits::Limits;
use crate::machine::number::Number;

/// See the module.
#[derive(Args, Clone, Debug, Default)]
pub struct LimitArgs {
    #[arg(help = help(Number::CpuQuota), long, value_name = "PERCENT", value_parser = |text: &str| Number::CpuQuota.parse(text))]
    cpu_quota: Option<u32>,
    #[arg(help = help(Number::Pids), long, value_name = "N", value_parser = |text: &str| Number::Pids.parse(text))]
    pids: Option<u32>,
    #[arg(help = help(Number::DiskIops), long, value_name = "N", value_parser = |text: &str| Number::DiskIops.parse(text))]
    disk_iops: Option<u32>,
    #[arg(help = help(Number::DiskBandwidth), long, value_name = "BYTES", value_parser = |text: &str| Number::DiskBandwidth.parse(text))]
    disk_bandwidth: Option<u32>,
    #[arg(help = help(Number::NetworkBandwidth), long, value_name = "BYTES", value_parser = |text: &str| Number::NetworkBandwidth.parse(text))]
    network_bandwidth: Option<u32>,
    #[arg(help = help(Number::WorkspaceSize), long, value_name = "MIB", value_parser = |text: &str| Number::WorkspaceSize.parse(text))]
    workspace_size: Option<u32>,
    #[arg(help = help(Number::KeepFree), long, value_name = "MIB", value_parser = |text: &str| Number::KeepFree.parse(text))]
    keep_free: Option<u32>,
}

impl LimitArgs {
    /// Returns the limits that the flags set.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let Self { cpu_quota, pids, disk_iops, disk_bandwidth, network_bandwidth, workspace_size, keep_free } = *self;
        Limits { cpu_quota, pids, disk_iops, disk_bandwidth, network_bandwidth, workspace_size, keep_free }
    }
}

/// Returns a flag's help with its default value, which the policy defines.
fn help(limit: Number) -> String {
    let Some(policy) = limit_policy(limit.name()) else { return String::new() };
    let default = policy.default.map_or_else(|| "no limit".to_owned(), |default| default.to_string());
    format!("{} [default: {default}]", policy.help)
}
