//! The manifest: everything that agent-vm reads from Nix. `docs/reference/contract.md` documents each field.

mod check;
mod credentials;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub use self::credentials::CredentialNames;
use crate::host::process::find;
use crate::machine::settings::GuestKind;
use crate::mcp::endpoint::renewal::Receiver;
use crate::term::error::Failure;

/// The manifest version that this program reads.
pub const VERSION: u32 = 1;

/// Nix's description of a guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest format.
    pub version: u32,
    /// Kind of the guest.
    pub guest: GuestKind,
    /// Nix system, such as `x86_64-linux`.
    pub system: String,
    /// The image to build, for the `debian` guest.
    pub image: Option<Image>,
    /// Path of the runner in the package.
    pub runner: PathBuf,
    /// Path of the kernel: relative to the package, or absolute.
    pub kernel: PathBuf,
    /// The QEMU that the runner starts.
    pub qemu: Qemu,
    /// The user that the agent runs as.
    pub user: User,
    /// The mount of the workspace.
    pub workspace: Workspace,
    /// Ports inside the guest.
    pub ports: GuestPorts,
    /// The systemd units and URL paths of MCP.
    pub service: Service,
    /// The guest's egress.
    pub egress: Egress,
    /// Names of the credentials that the guest reads.
    pub credentials: CredentialNames,
    /// The machine's own disk.
    pub disk: Disk,
    /// Key press that makes the guest power off.
    pub power_off: PowerOff,
    /// Text that the guest writes to the console once its network is up.
    pub network_mark: Option<String>,
    /// Program that root's sessions run first; missing in older guests.
    #[serde(default)]
    pub root_setup: Option<String>,
}

/// An image that a builder makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// SHA-256 of all inputs of the image.
    pub hash: String,
    /// Path of the builder program.
    pub builder: PathBuf,
    /// Input of the builder; this program does not read it.
    pub spec: serde_json::Value,
}

/// See [`Manifest::qemu`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The program that the runner starts.
    pub binary: String,
    /// The value of `-cpu` for each accelerator.
    pub cpu: CpuModels,
    /// Further facts for starting QEMU; missing in guests built before they existed, which cannot be started.
    #[serde(default)]
    pub start: Option<Start>,
}

impl Qemu {
    /// Finds the QEMU that the KVM probe, the sandbox and the runner all use.
    ///
    /// # Errors
    /// It is not on PATH.
    pub fn program(&self) -> Result<PathBuf> {
        find(self.binary.as_ref())
    }

    /// Returns the further facts for starting QEMU.
    ///
    /// # Errors
    /// The guest was built before they existed.
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
    /// QEMU options that remove its default devices and enable its sandbox.
    pub quiet: Vec<String>,
    /// Prefix of a credential's name in fw_cfg.
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
    /// virtiofsd.
    #[serde(rename = "virtiofs")]
    Virtiofs,
    /// QEMU's built-in 9p server.
    #[serde(rename = "9p")]
    NineP,
}

impl Share {
    /// Returns the name that settings, Nix and status use.
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
    /// Mount tag of the share.
    pub tag: String,
    /// File system of the share.
    pub share: Share,
}

/// See [`Manifest::ports`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestPorts {
    /// Port of sshd.
    pub ssh: u16,
    /// Port of the MCP reverse proxy.
    pub mcp: u16,
}

/// See [`Manifest::service`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// systemd unit of the MCP servers.
    pub unit: String,
    /// systemd unit of the reverse proxy in front of them.
    pub gate_unit: String,
    /// URL path that accepts a renewed certificate; missing in guests built before that existed.
    #[serde(default)]
    pub renewal_path: Option<String>,
    /// URL path of MCP's streamable HTTP transport.
    pub mcp_path: String,
    /// URL path of MCP's older HTTP+SSE transport.
    pub sse_path: String,
    /// URL path of the health endpoint.
    pub health_path: String,
    /// URL path below which named servers are: `/<name>/mcp` and `/<name>/sse`.
    pub servers_path: String,
    /// File in the guest that holds the states of its servers; missing in guests built before that existed.
    #[serde(default)]
    pub servers_state: Option<String>,
}

/// See [`Manifest::egress`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Port of the HTTP proxy on the guest's loopback interface.
    pub port: u16,
    /// Groups of hosts that settings can name with `@NAME`.
    pub groups: Vec<Group>,
}

/// See [`Egress::groups`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name of the group, without the `@`.
    pub name: String,
    /// Host names and patterns.
    pub hosts: Vec<String>,
}

/// See [`Manifest::disk`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Label of the ext4 file system.
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
    /// Parses and validates a manifest.
    ///
    /// # Errors
    /// It has another version, unknown fields, or a value that could escape from an option or a path.
    pub fn parse(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_str(text).context("invalid manifest: not a JSON object with a version")?;
        if version != VERSION {
            return Err(Failure::new(format!(
                "unsupported manifest: the toolkit's has version {version}, this agent-vm reads version {VERSION}"
            ))
            .with_hint("use an agent-vm and a toolkit (AGENT_VM_TOOLKIT) of the same release")
            .into());
        }
        let manifest: Self = serde_json::from_str(text).context("invalid manifest")?;
        check::check(&manifest)?;
        Ok(manifest)
    }

    /// Returns how the guest accepts a renewed certificate.
    #[must_use]
    pub fn certificate_receiver(&self) -> Receiver {
        Receiver { path: self.service.renewal_path.clone(), key: self.credentials.mcp_key.clone() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The manifest of a `debian` guest.
    pub(crate) const SAMPLE: &str = include_str!("../../tests/data/manifest.json");

    pub(crate) fn sample() -> Manifest {
        Manifest::parse(SAMPLE).unwrap()
    }

    #[test]
    fn the_sample_parses_and_serializes_back() {
        let manifest = Manifest::parse(SAMPLE).unwrap();
        assert_eq!(Manifest::parse(&serde_json::to_string(&manifest).unwrap()).unwrap(), manifest);
    }
}
