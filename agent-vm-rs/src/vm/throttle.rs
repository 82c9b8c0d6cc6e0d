//! Limits of disk transfers that QEMU enforces itself, on every host.

use anyhow::Result;
use serde_json::json;

use crate::machine::limits::Limits;
use crate::machine::number::Number;
use crate::machine::run_state::RunDir;
use crate::vm::qmp;

/// Ids of the drives in lib/policy/qemu.nix. They share one limit.
const DRIVES: [&str; 2] = ["disk", "base"];
/// Name of the group of drives that shares the limit.
const GROUP: &str = "disk";

/// Returns QEMU's options for the limits of disk transfers.
#[must_use]
pub fn options(limits: &Limits) -> Vec<String> {
    // The runner has made the drives; these options follow.
    let set =
        |drive: &str, key: &str, value: String| ["-set".to_owned(), format!("drive.{drive}.throttling.{key}={value}")];
    let all = [("iops-total", Number::DiskIops), ("bps-total", Number::DiskBandwidth)];
    let set_limits: Vec<_> = all.into_iter().filter_map(|(key, of)| Some((key, limits.of(of)?))).collect();
    if set_limits.is_empty() {
        return Vec::new();
    }
    let of_one = |drive: &'static str| {
        let values = set_limits.iter().flat_map(move |(key, value)| set(drive, key, value.to_string()));
        values.chain(set(drive, "group", GROUP.to_owned())).collect::<Vec<_>>()
    };
    DRIVES.into_iter().flat_map(of_one).collect()
}

/// Changes the limits of disk transfers of a running machine.
///
/// # Errors
/// QEMU does not answer, or is one without these limits.
pub fn change(run: &RunDir, limits: &Limits) -> Result<()> {
    let of = |limit| limits.of(limit).unwrap_or(0);
    let (bytes, operations) = (of(Number::DiskBandwidth), of(Number::DiskIops));
    for drive in DRIVES {
        // Zero is no limit.
        let arguments = json!({
            "device": drive, "group": GROUP,
            "bps": bytes, "bps_rd": 0, "bps_wr": 0,
            "iops": operations, "iops_rd": 0, "iops_wr": 0,
        });
        qmp::command(run, "block_set_io_throttle", arguments)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drives_share_a_limit() {
        assert!(options(&Limits::default()).is_empty());
        let limits = Limits { disk_iops: Some(100), ..Limits::default() };
        assert_eq!(
            options(&limits).join(" "),
            "-set drive.disk.throttling.iops-total=100 -set drive.disk.throttling.group=disk \
             -set drive.base.throttling.iops-total=100 -set drive.base.throttling.group=disk"
        );
    }
}
