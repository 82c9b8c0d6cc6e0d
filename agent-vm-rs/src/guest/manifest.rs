//! The manifest: the one thing that crosses from Nix to Rust. `docs/reference/contract.md` has the same table.

mod check;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::process::find;
use crate::machine::settings::GuestKind;
use crate::mcp::endpoint::renewal::Receiver;
use crate::term::error::Failure;

/// The manifest version this program reads.
pub const VERSION: u32 = 1;

/// A guest, as Nix describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Version of the contract.
    pub version: u32,
    /// Which guest this is.
    pub guest: GuestKind,
    /// Nix system double.
    pub system: String,
    /// What is still to be built, for the `debian` guest.
    pub image: Option<Image>,
    /// Runner, a path in the package.
    pub runner: PathBuf,
    /// Kernel, a path in the package or an absolute one.
    pub kernel: PathBuf,
    /// QEMU as the runner starts it.
    pub qemu: Qemu,
    /// The guest's agent user.
    pub user: User,
    /// The workspace's mount.
    pub workspace: Workspace,
    /// Ports in the guest.
    pub ports: GuestPorts,
    /// The MCP service.
    pub service: Service,
    /// The guest's way out.
    pub egress: Egress,
    /// Names of the credentials the guest reads.
    pub credentials: CredentialNames,
    /// The machine's own disk.
    pub disk: Disk,
    /// Which key press powers it off.
    pub power_off: PowerOff,
    /// What the guest writes to the console once connections reach it.
    pub network_mark: Option<String>,
}

/// An image that a builder makes from the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// SHA-256 of everything that feeds it.
    pub hash: String,
    /// The builder program.
    pub builder: PathBuf,
    /// For the builder alone.
    pub spec: serde_json::Value,
}

/// See [`Manifest::qemu`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// Program the runner starts.
    pub binary: String,
    /// Value of `-cpu` for either accelerator.
    pub cpu: CpuModels,
    /// What a start needs besides; a guest that was built before there was one has none, and is not started.
    #[serde(default)]
    pub start: Option<Start>,
}

impl Qemu {
    /// Finds the program: the one that the KVM probe tries, the sandbox shows and the runner starts.
    ///
    /// # Errors
    /// It is not on PATH.
    pub fn program(&self) -> Result<PathBuf> {
        find(self.binary.as_ref())
    }

    /// Returns what a start needs besides.
    ///
    /// # Errors
    /// The guest is older than that.
    pub fn start(&self) -> Result<&Start> {
        let old = || {
            Failure::new("the toolkit's manifest does not say how QEMU is started")
                .with_hint("use an agent-vm and a toolkit of the same release (AGENT_VM_TOOLKIT)")
        };
        Ok(self.start.as_ref().ok_or_else(old)?)
    }
}

/// See [`Qemu::start`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    /// Arguments without which QEMU has devices of its own and no sandbox.
    pub quiet: Vec<String>,
    /// Before a credential's name in fw_cfg.
    pub credential_prefix: String,
}

/// See [`Qemu::cpu`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuModels {
    /// Under KVM.
    pub kvm: String,
    /// Under TCG.
    pub tcg: String,
}

/// See [`Manifest::user`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id in the guest.
    pub uid: u32,
    /// Group id in the guest.
    pub gid: u32,
}

/// How the guest mounts the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Share {
    /// By virtiofsd.
    #[serde(rename = "virtiofs")]
    Virtiofs,
    /// By QEMU's own 9p server.
    #[serde(rename = "9p")]
    NineP,
}

impl Share {
    /// The name that settings, Nix and status use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Virtiofs => "virtiofs",
            Self::NineP => "9p",
        }
    }
}

/// See [`Manifest::workspace`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Mount point in the guest.
    pub path: String,
    /// Tag of the share.
    pub tag: String,
    /// File system.
    pub share: Share,
}

/// See [`Manifest::ports`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestPorts {
    /// sshd.
    pub ssh: u16,
    /// MCP over HTTP.
    pub mcp: u16,
}

/// See [`Manifest::service`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// systemd unit.
    pub unit: String,
    /// systemd unit of the gate before it.
    pub gate_unit: String,
    /// Path at which the gate takes another certificate; a guest that was built before there was one has none.
    #[serde(default)]
    pub renewal_path: Option<String>,
    /// Path of streamable HTTP.
    pub mcp_path: String,
    /// Path of SSE.
    pub sse_path: String,
    /// Path of the health endpoint.
    pub health_path: String,
    /// Below it: `/<name>/mcp` and `/<name>/sse` of named servers.
    pub servers_path: String,
    /// File in the guest with the states of its servers; a guest that was built before there was one has none.
    #[serde(default)]
    pub servers_state: Option<String>,
}

/// See [`Manifest::egress`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Port on the guest's loopback that its programs know as their proxy.
    pub port: u16,
    /// Hosts that settings may name as one.
    pub groups: Vec<Group>,
}

/// See [`Egress::groups`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name, without the `@`.
    pub name: String,
    /// Hosts or patterns.
    pub hosts: Vec<String>,
}

/// See [`Manifest::credentials`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialNames {
    /// sshd's private host key.
    pub ssh_host_key: String,
    /// Public keys that may log in.
    pub authorized_keys: String,
    /// The machine's host name.
    pub hostname: String,
    /// `warn`, `info` or `debug`.
    pub log_level: String,
    /// Certificate of the gate before MCP.
    pub mcp_certificate: String,
    /// Its private key.
    pub mcp_key: String,
    /// The token that it lets in.
    pub mcp_token: String,
    /// What it asks for, and the names it goes by.
    pub mcp_endpoint: String,
    /// Certificate of the authority that signs for the proxy.
    pub egress_authority: String,
    /// Variables of every session and server, a line each.
    pub egress_environment: String,
}

impl CredentialNames {
    /// Every name.
    #[must_use]
    pub fn all(&self) -> [&String; 10] {
        [
            &self.ssh_host_key,
            &self.authorized_keys,
            &self.hostname,
            &self.log_level,
            &self.mcp_certificate,
            &self.mcp_key,
            &self.mcp_token,
            &self.mcp_endpoint,
            &self.egress_authority,
            &self.egress_environment,
        ]
    }
}

/// See [`Manifest::disk`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// ext4 label.
    pub label: String,
}

/// See [`Manifest::power_off`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerOff {
    /// Ctrl-Alt-Delete on the keyboard.
    CtrlAltDelete,
    /// The ACPI power button.
    Acpi,
}

impl Manifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// It is of another version, has fields this program does not know, or values that would
    /// break out of an option or path.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_str(text).context("the manifest is no JSON object with a version")?;
        if version != VERSION {
            return Err(Failure::new(format!(
                "the toolkit's manifest has version {version}, this agent-vm reads {VERSION}"
            ))
            .with_hint("use an agent-vm and a toolkit of the same release (AGENT_VM_TOOLKIT)")
            .into());
        }
        let manifest: Self = serde_json::from_str(text).context("the toolkit's manifest is not usable")?;
        check::check(&manifest)?;
        Ok(manifest)
    }

    /// Returns how the guest takes another certificate.
    #[must_use]
    pub fn certificate_receiver(&self) -> Receiver {
        Receiver { path: self.service.renewal_path.clone(), key: self.credentials.mcp_key.clone() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A manifest as the `debian` guest has it.
    pub(crate) const SAMPLE: &str = include_str!("../../tests/data/manifest.json");

    #[test]
    fn the_sample_parses_and_survives() {
        let manifest = Manifest::parse(SAMPLE).unwrap();
        assert_eq!(Manifest::parse(&serde_json::to_string(&manifest).unwrap()).unwrap(), manifest);
    }
}
