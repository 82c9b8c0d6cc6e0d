//! Which accelerator really runs a guest here. That `/dev/kvm` opens proves nothing: under some hypervisors
//! a kernel hangs on it. So the guest's own kernel is booted once under KVM, with nothing to boot into: it
//! panics and resets within a second, or it does not come that far.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::confine::landlock::Network;
use crate::confine::plan::Sight;
use crate::confine::{self, Confinement, KVM};
use crate::guest::Guest;
use crate::host::boot_id;
use crate::manifest::Qemu;
use crate::plan::Accel;
use crate::process::Invocation;
use crate::state::{make_private_dir, write_unsynced};

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

/// The accelerator to use, and why it is not KVM. The QEMU that is tried is confined as the machine's would be, and `installed`
/// is where it is.
///
/// # Errors
/// The cache cannot be written.
pub fn choose(
    guest: &Guest,
    confinement: &Confinement,
    installed: &[Sight],
    cache: &Path,
) -> Result<(Accel, Option<String>)> {
    if let Some(obstacle) = device_obstacle() {
        return Ok((Accel::Tcg, Some(obstacle)));
    }
    let kernel = guest.package.join(&guest.manifest.kernel);
    let file = cache.join("kvm-probe.json");
    let (boot, kernel_name) = (boot_id()?, kernel.display().to_string());
    let remembered = fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<Probe>(&text).ok());
    let probe = match remembered.filter(|probe| probe.boot == boot && probe.kernel == kernel_name) {
        Some(probe) => probe,
        None => {
            let tried = trial(&kernel, &guest.manifest.qemu, &confinement.with_kvm(), installed);
            let probe = Probe { boot, kernel: kernel_name, obstacle: obstacle_of(&tried)? };
            make_private_dir(cache)?;
            write_unsynced(&file, serde_json::to_string(&probe)?, 0o600)?;
            probe
        }
    };
    let accel = if probe.obstacle.is_none() { Accel::Kvm } else { Accel::Tcg };
    Ok((accel, probe.obstacle))
}

fn device_obstacle() -> Option<String> {
    match OpenOptions::new().read(true).write(true).open(KVM) {
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("there is no /dev/kvm".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Some("/dev/kvm may not be opened; add yourself to the group kvm".to_owned())
        }
        Err(error) => Some(format!("/dev/kvm does not open: {error}")),
    }
}

/// A boot under KVM.
fn trial(kernel: &Path, qemu: &Qemu, confinement: &Confinement, installed: &[Sight]) -> Invocation {
    let boot = Invocation::new(&qemu.binary)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256", "-nic", "none"])
        .args(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"])
        .args(["-machine", "q35,accel=kvm", "-cpu", &qemu.cpu.kvm, "-kernel"])
        .arg(kernel)
        .args(["-append", "panic=-1 quiet"])
        .cwd("/");
    let own = [Sight::Read(kernel.to_owned()), Sight::Device(KVM.into())];
    let sights: Vec<_> = installed.iter().cloned().chain(own).collect();
    confine::plan::with_us(&boot, confinement, &sights, Network::Listen(&[]))
}

/// What came between a trial and its end.
fn obstacle_of(trial: &Invocation) -> Result<Option<String>> {
    match trial.clone().time_limit(PATIENCE).output() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::{Account, Sandbox};
    use crate::manifest::Manifest;
    use crate::manifest::tests::SAMPLE;

    #[test]
    fn the_trial_is_as_it_was() {
        let manifest = Manifest::parse(SAMPLE).unwrap();
        let account = Some(Account { uid: 998, gid: 997, groups: vec![107] });
        let proxyd = Some("/lib/systemd/systemd-socket-proxyd".into());
        let confinement =
            Confinement { sandbox: Some(Sandbox { account, proxyd }), landlock: Some("/usr/bin/agent-vm".into()) };
        let installed = [Sight::Read("/opt/qemu/bin".into())];
        let trial = trial(Path::new("/cache/guest/vmlinux"), &manifest.qemu, &confinement, &installed);
        insta::assert_snapshot!(format!("{trial:#?}"));
    }

    #[test]
    fn what_ends_well_is_no_obstacle() {
        let ends = |script: &str| obstacle_of(&Invocation::new("sh").args(["-c", script])).unwrap();
        assert_eq!(ends("exit 0"), None);
        assert_eq!(ends("echo no such device >&2; exit 1").unwrap(), "QEMU cannot use it: no such device");
    }
}
