//! Which accelerator really runs a guest here. That `/dev/kvm` opens proves nothing: under some hypervisors
//! a kernel hangs on it. So the guest's own kernel is booted once under KVM, with nothing to boot into: it
//! panics and resets within a second, or it does not come that far.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::host::boot_id;
use crate::manifest::Manifest;
use crate::plan::Accel;
use crate::process::Invocation;
use crate::state::{make_private_dir, write_file};

/// Time in which a kernel under working KVM has long ended.
const PATIENCE: Duration = Duration::from_secs(8);

/// The outcome of a probe; holds for one boot of the host and one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Probe {
    boot: String,
    kernel: String,
    /// Why KVM cannot be used; None if it can.
    obstacle: Option<String>,
}

/// The accelerator to use, and why it is not KVM.
///
/// # Errors
/// The cache cannot be written.
pub fn choose(package: &Path, manifest: &Manifest, cache: &Path) -> Result<(Accel, Option<String>)> {
    if let Some(obstacle) = device_obstacle() {
        return Ok((Accel::Tcg, Some(obstacle)));
    }
    let kernel = package.join(&manifest.kernel);
    let file = cache.join("kvm-probe.json");
    let (boot, kernel_name) = (boot_id()?, kernel.display().to_string());
    let remembered = fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<Probe>(&text).ok());
    let probe = match remembered.filter(|probe| probe.boot == boot && probe.kernel == kernel_name) {
        Some(probe) => probe,
        None => {
            let probe = Probe { boot, kernel: kernel_name, obstacle: boot_obstacle(&kernel, manifest)? };
            make_private_dir(cache)?;
            write_file(&file, serde_json::to_string(&probe)?, 0o600)?;
            probe
        }
    };
    let accel = if probe.obstacle.is_none() { Accel::Kvm } else { Accel::Tcg };
    Ok((accel, probe.obstacle))
}

fn device_obstacle() -> Option<String> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("there is no /dev/kvm".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Some("/dev/kvm may not be opened; add yourself to the group kvm".to_owned())
        }
        Err(error) => Some(format!("/dev/kvm does not open: {error}")),
    }
}

fn boot_obstacle(kernel: &Path, manifest: &Manifest) -> Result<Option<String>> {
    let probe = Invocation::new(&manifest.qemu.binary)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256", "-nic", "none"])
        .args(["-machine", "q35,accel=kvm", "-cpu", &manifest.qemu.cpu.kvm, "-kernel"])
        .arg(kernel)
        .args(["-append", "panic=-1 quiet"])
        .time_limit(PATIENCE);
    match probe.output() {
        Ok(output) if output.status.success() => Ok(None),
        Ok(output) => {
            let said = crate::text::last_lines(&String::from_utf8_lossy(&output.stderr), 1);
            Ok(Some(format!("QEMU cannot use it: {said}")))
        }
        Err(error) if crate::error::exit_code(&error) == crate::error::EXIT_TIMEOUT => {
            Ok(Some("a kernel hangs under it on this host".to_owned()))
        }
        Err(error) => Err(error),
    }
}
