//! Finds out whether KVM works. That `/dev/kvm` opens proves nothing: under some hypervisors a kernel hangs with it.
//! So the probe boots the guest's own kernel once under KVM, without a root file system: if KVM works, the kernel
//! panics and resets within a second.
//!
//! A failed boot means that KVM does not work only if the same QEMU, confined in the same way, starts at all. Every
//! other failure is one of the probe itself: it is reported, and the next start probes again.

mod device;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::confine::landlock::Network;
use crate::confine::mount::Mount;
use crate::confine::{self, Confinement, KVM};
use crate::guest::Guest;
use crate::guest::manifest::Qemu;
use crate::host::files::{make_private_dir, write_unsynced};
use crate::host::process::{Invocation, find};
use crate::host::system::boot_id;
use crate::machine::accel::Accel;
use crate::machine::name::VmName;
use crate::term::error::{EXIT_TIMEOUT, Interrupted, exit_code};
use crate::term::terminal::shorten_end;

use self::device::Gate;
pub use self::device::Refusal;

/// Time limit of the boot. Under working KVM the kernel resets much sooner.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Time limit for QEMU to print its version. If that takes longer, the host is too busy for [`TIMEOUT`] to be
/// meaningful.
const PROMPT: Duration = Duration::from_secs(2);
/// Version of this probe. Cached results of other versions are ignored.
const VERSION: u32 = 4;
/// Number of cached results, so that machines with different kernels do not evict each other's.
const KEPT: usize = 8;

/// Widest reason in the notice, in columns.
const LONGEST_REASON: usize = 64;

/// The inputs of a result: when one changes, the probe runs again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    version: u32,
    /// Boot id of the host.
    boot: String,
    /// Real path of the guest's kernel.
    kernel: PathBuf,
    /// Real path of QEMU with its size and time of change in nanoseconds, since an upgrade replaces the file.
    qemu: (PathBuf, u64, i128),
    /// QEMU's model of the processor.
    cpu: String,
    /// Mode, owner and group of the device.
    device: (u32, u32, u32),
    /// Account that QEMU runs as.
    account: u32,
    /// Description of QEMU's confinement.
    confinement: String,
}

/// A cached result of a probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verdict {
    subject: Subject,
    /// Why KVM cannot be used; None if it works.
    reason: Option<String>,
}

/// The accelerator to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// KVM works.
    Kvm,
    /// KVM does not work, for this reason.
    NoKvm(String),
    /// The probe itself failed, for this reason.
    Unknown(String),
}

impl Choice {
    /// Returns the accelerator.
    #[must_use]
    pub fn accel(&self) -> Accel {
        match self {
            Self::Kvm => Accel::Kvm,
            Self::NoKvm(_) | Self::Unknown(_) => Accel::Tcg,
        }
    }

    /// Returns the message for the user.
    #[must_use]
    pub fn notice(&self, machine: &VmName) -> Option<String> {
        match self {
            Self::Kvm => None,
            // At most two lines of 80 columns.
            Self::NoKvm(why) => Some(format!(
                "notice: no KVM ({}): emulation is slower; for a remedy: agent-vm doctor {machine}",
                shorten_end(why, LONGEST_REASON)
            )),
            Self::Unknown(why) => Some(format!(
                "warning: the KVM probe itself failed: {why}\n\
                 Emulation is slower. The next start probes again; --debug shows each command"
            )),
        }
    }
}

/// Chooses the accelerator. The probe's QEMU is confined as the machine's is.
///
/// # Errors
/// QEMU or the guest's kernel is missing, the cache cannot be written, or a signal arrived.
pub fn choose(guest: &Guest, confinement: &Confinement, cache: &Path) -> Result<Choice> {
    Probe { device: Path::new(KVM), timeout: TIMEOUT, guest, confinement: &confinement.with_kvm() }.choose(cache)
}

/// A probe of one device for one guest.
struct Probe<'a> {
    device: &'a Path,
    timeout: Duration,
    guest: &'a Guest,
    confinement: &'a Confinement,
}

/// How a test boot ended.
#[derive(Debug)]
enum Trial {
    /// The kernel reset the machine.
    Ended,
    /// QEMU exited with this message.
    Refused(String),
    /// It did not end in time.
    Hung,
    /// QEMU could not be run.
    Failed(anyhow::Error),
}

/// Returns why the machines' account cannot open KVM's device; None if it can. `confinement` is the machines'.
///
/// # Errors
/// The device cannot be examined, or a signal arrived.
pub fn refusal(confinement: &Confinement) -> Result<Option<Refusal>> {
    Gate { device: Path::new(KVM), timeout: TIMEOUT, confinement: &confinement.with_kvm() }.refusal()
}

impl Probe<'_> {
    fn gate(&self) -> Gate<'_> {
        Gate { device: self.device, timeout: self.timeout, confinement: self.confinement }
    }

    fn choose(&self, cache: &Path) -> Result<Choice> {
        if let Some(refusal) = self.gate().refusal()? {
            return Ok(Choice::NoKvm(refusal.to_string()));
        }
        let kernel = self.guest.package.join(&self.guest.manifest.kernel);
        let kernel = real(&kernel)?;
        let subject = self.subject(&kernel)?;
        let file = cache.join("kvm-probe.json");
        let mut known: Vec<Verdict> = crate::host::files::read_text(&file)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let remembered = known.iter().find(|verdict| verdict.subject == subject).cloned();
        let reason = match remembered {
            Some(verdict) => verdict.reason,
            None => {
                let reason = match self.verdict(&kernel)? {
                    Ok(reason) => reason,
                    Err(why) => return Ok(Choice::Unknown(why)),
                };
                known.retain(|verdict| verdict.subject.boot == subject.boot);
                known.insert(0, Verdict { subject, reason: reason.clone() });
                known.truncate(KEPT);
                make_private_dir(cache)?;
                write_unsynced(&file, serde_json::to_string(&known)?, 0o600)?;
                reason
            }
        };
        Ok(reason.map_or(Choice::Kvm, Choice::NoKvm))
    }

    fn subject(&self, kernel: &Path) -> Result<Subject> {
        let look = |path: &Path| fs::metadata(path).with_context(|| format!("failed to inspect {}", path.display()));
        let qemu = real(&self.guest.manifest.qemu.program()?)?;
        let (binary, device) = (look(&qemu)?, look(self.device)?);
        let changed = i128::from(binary.ctime()) * 1_000_000_000 + i128::from(binary.ctime_nsec());
        let account = self.confinement.account().map(|account| account.uid);
        Ok(Subject {
            version: VERSION,
            boot: boot_id()?,
            kernel: kernel.to_owned(),
            qemu: (qemu, binary.len(), changed),
            cpu: self.guest.manifest.qemu.cpu.kvm.clone(),
            device: (device.mode(), device.uid(), device.gid()),
            account: account.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            confinement: self.confinement.describe(),
        })
    }

    /// Returns the reason why KVM cannot be used, or the error of the probe itself.
    fn verdict(&self, kernel: &Path) -> Result<Result<Option<String>, String>> {
        let qemu = &self.guest.manifest.qemu;
        let program = qemu.program()?;
        let outcome = match self.trial_of(&boot(kernel, &program, qemu)?, kernel)? {
            Trial::Ended => return Ok(Ok(None)),
            Trial::Failed(error) => return Ok(Err(format!("{error:#}"))),
            outcome @ (Trial::Refused(_) | Trial::Hung) => outcome,
        };
        let begun = Instant::now();
        let control = match self.trial_of(&Invocation::new(&program).arg("--version").cwd("/"), kernel)? {
            Trial::Ended => None,
            Trial::Refused(message) => Some(message),
            Trial::Hung => Some("QEMU took too long to print its version".to_owned()),
            Trial::Failed(error) => Some(format!("{error:#}")),
        };
        Ok(match (control, outcome) {
            (Some(why), _) => Err(format!("QEMU does not start in its confinement ({why})")),
            (None, Trial::Refused(message)) if is_about_kvm(&message, &program.to_string_lossy(), kernel) => {
                Ok(Some(format!("QEMU cannot use it: {message}")))
            }
            (None, Trial::Refused(message)) => Err(format!("QEMU ended before it used KVM ({message})")),
            (None, _) if begun.elapsed() > PROMPT => Err("this host is too busy to probe".to_owned()),
            (None, _) => Ok(Some("a kernel hangs with KVM on this host".to_owned())),
        })
    }

    fn confined(&self, qemu: &Invocation, kernel: &Path) -> Result<Invocation> {
        let mut mounts = confine::mount::installation(&find(&qemu.program)?);
        mounts.extend([Mount::Read(kernel.to_owned()), Mount::Device(self.device.to_owned())]);
        Ok(confine::bwrap::with_us(qemu, self.confinement, &mounts, Network::Listen(&[])))
    }

    /// # Errors
    /// QEMU is missing, or a signal arrived.
    fn trial_of(&self, qemu: &Invocation, kernel: &Path) -> Result<Trial> {
        match self.confined(qemu, kernel)?.time_limit(self.timeout).output() {
            Ok(output) if output.status.success() => Ok(Trial::Ended),
            Ok(output) => {
                let message = crate::term::text::last_lines(&String::from_utf8_lossy(&output.stderr), 1);
                Ok(Trial::Refused(if message.is_empty() { output.status.to_string() } else { message }))
            }
            Err(error) if error.is::<Interrupted>() => Err(error),
            Err(error) if exit_code(&error) == EXIT_TIMEOUT => Ok(Trial::Hung),
            Err(error) => Ok(Trial::Failed(error)),
        }
    }
}

/// Returns whether QEMU's message mentions KVM outside of the paths that agent-vm passed.
fn is_about_kvm(message: &str, qemu: &str, kernel: &Path) -> bool {
    message.replace(qemu, "").replace(&*kernel.to_string_lossy(), "").to_lowercase().contains("kvm")
}

/// Returns the real path of a file, which the sandbox can bind.
fn real(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("failed to find {}", path.display()))
}

/// Returns the command of a boot under KVM, with QEMU's options from the runner and nothing else of a machine.
fn boot(kernel: &Path, program: &Path, qemu: &Qemu) -> Result<Invocation> {
    Ok(Invocation::new(program)
        .args(&qemu.start()?.quiet)
        .args(["-m", "256", "-nic", "none"])
        .args(["-machine", "q35,accel=kvm", "-cpu", &qemu.cpu.kvm, "-kernel"])
        .arg(kernel)
        .args(["-append", "panic=-1 quiet"])
        .cwd("/"))
}

#[cfg(test)]
mod tests;
