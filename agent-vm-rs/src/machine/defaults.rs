//! Default settings, from the file that the NixOS modules read too.

use serde::Deserialize;

/// The settings of a machine for which no others were requested.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Address on which the host's ports are bound.
    pub host: String,
    /// First host port tried for MCP.
    pub mcp_port: u16,
    /// First host port tried for ssh.
    pub ssh_port: u16,
    /// Guest memory, MiB.
    #[serde(rename = "memoryMiB")]
    pub memory: u32,
    /// Virtual CPUs, at most those of the host.
    pub cores: u32,
    /// Size of the machine's own disk, MiB.
    #[serde(rename = "diskMiB")]
    pub disk: u32,
    /// Egress mode.
    pub egress: crate::machine::egress_settings::Mode,
    /// Allowed ranges of sizes.
    pub bounds: Bounds,
    /// Descriptions of sizes, for help texts.
    pub help: Help,
}

/// See [`Defaults::bounds`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Guest memory, MiB.
    #[serde(rename = "memoryMiB")]
    pub memory: Range,
    /// Virtual CPUs.
    pub cores: Range,
    /// Disk size, MiB.
    #[serde(rename = "diskMiB")]
    pub disk: Range,
}

/// See [`Defaults::help`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Help {
    /// Guest memory.
    #[serde(rename = "memoryMiB")]
    pub memory: String,
    /// Virtual CPUs.
    pub cores: String,
    /// Disk size.
    #[serde(rename = "diskMiB")]
    pub disk: String,
}

/// An inclusive range.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    pub least: u32,
    /// Largest value.
    pub most: u32,
}

const TEXT: &str = include_str!("../../../lib/policy/defaults.json");

impl Defaults {
    /// Returns the defaults this program was built with.
    ///
    /// # Errors
    /// Never in a program whose tests passed: the file is compiled in.
    pub fn load() -> anyhow::Result<Self> {
        use anyhow::Context as _;
        serde_json::from_str(TEXT).context("failed to read the built-in defaults")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_built_in_defaults_load() {
        let defaults = super::Defaults::load().unwrap();
        assert_eq!((defaults.memory, defaults.cores, defaults.disk), (4096, 4, 20480));
        assert_eq!(defaults.host, "localhost");
    }
}
