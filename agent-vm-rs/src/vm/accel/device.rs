//! Whether the machines' account can open KVM's device.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::confine::{self, Account, Confinement};
use crate::host::process::Invocation;

/// Why the device cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not exist.
    Missing(String),
    /// The account may not open it.
    Forbidden {
        /// Which account, and whose the device is.
        text: String,
        /// Whether a member of its group may open it.
        joinable: bool,
    },
    /// It does not open, for another reason.
    Broken(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Missing(text) | Self::Forbidden { text, .. } | Self::Broken(text)) = self;
        f.write_str(text)
    }
}

/// A device, and who is to open it.
pub struct Gate<'a> {
    pub device: &'a Path,
    pub timeout: Duration,
    pub confinement: &'a Confinement,
}

impl Gate<'_> {
    /// Returns why QEMU's account cannot open the device; None if it can.
    pub fn refusal(&self) -> Result<Option<Refusal>> {
        let path = self.device.display();
        match OpenOptions::new().read(true).write(true).open(self.device) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some(Refusal::Missing(format!("{path} does not exist"))));
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let user = Invocation::new("id").arg("-un").read().unwrap_or_else(|_| "this account".to_owned());
                return Ok(Some(self.forbidden(&user)?));
            }
            Err(error) => return Ok(Some(Refusal::Broken(format!("cannot open {path}: {error}")))),
        }
        let Some(account) = self.confinement.account() else { return Ok(None) };
        // Test as the account itself, since access control lists may apply.
        let test = Invocation::new("test").arg("-r").arg(self.device).arg("-a").arg("-w").arg(self.device);
        let drop = confine::setpriv::drop_to(Some(account));
        let (program, words) = drop.split_first().context("the command to drop privileges is empty")?;
        let test = test.within(Invocation::new(program).args(words)).time_limit(self.timeout).output()?;
        if test.status.success() { Ok(None) } else { Ok(Some(self.forbidden(&named(account))?)) }
    }

    /// Returns who cannot open the device. `--verbose` shows the command that allows it.
    fn forbidden(&self, who: &str) -> Result<Refusal> {
        let path = self.device.display();
        let seen = fs::metadata(self.device).with_context(|| format!("failed to inspect {path}"))?;
        let owner = Invocation::new("stat").args(["-c", "%U:%G"]).arg(self.device).read();
        let owner = owner.unwrap_or_else(|_| format!("{}:{}", seen.uid(), seen.gid()));
        let group = owner.split_once(':').map_or("kvm", |(_, group)| group);
        tracing::info!("to allow KVM: {}", self.remedy(who, group, &seen));
        let text = format!("{who} may not open {path}, {owner} {:04o}", seen.mode() & 0o777);
        Ok(Refusal::Forbidden { text, joinable: self.confinement.account().is_none() && is_joinable(&seen) })
    }

    /// Returns the command that allows an account to open the device.
    pub fn remedy(&self, who: &str, group: &str, seen: &fs::Metadata) -> String {
        let path = self.device.display();
        let allow = format!("groupadd -f -r kvm && chgrp kvm {path} && chmod 660 {path}");
        match self.confinement.account() {
            Some(account) => {
                // See `Account::with_device`.
                let whose = if account.stage.is_some() {
                    "that account is agent-vm's own for this machine"
                } else {
                    "the machine's QEMU runs as that account"
                };
                format!("{allow}, as root; {whose}, and each start adds the device's group to it: no logout is needed")
            }
            None if is_joinable(seen) => {
                format!("sudo usermod -aG {group} {who}, and log in again")
            }
            None => format!("{allow} && usermod -aG kvm {who}, as root, and log in again"),
        }
    }
}

/// Returns whether the members of its group, which is not root's, may open it.
fn is_joinable(seen: &fs::Metadata) -> bool {
    seen.mode() & 0o060 == 0o060 && seen.gid() != 0
}

fn named(account: &Account) -> String {
    let name = Invocation::new("id").args(["-un", "--"]).arg(account.uid.to_string()).read();
    name.unwrap_or_else(|_| format!("the account {}", account.uid))
}
