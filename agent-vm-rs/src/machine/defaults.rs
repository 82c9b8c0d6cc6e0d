//! Defaults of settings, from the file that the NixOS modules read too.

use serde::Deserialize;

/// What a machine gets when nothing else is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Address of the host's forwards.
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
    /// What a machine may reach.
    pub egress: crate::machine::egress_settings::Mode,
    /// What may be asked for.
    pub bounds: Bounds,
}

/// See [`Defaults::bounds`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// MiB.
    #[serde(rename = "memoryMiB")]
    pub memory: Range,
    /// Virtual CPUs.
    pub cores: Range,
    /// MiB.
    #[serde(rename = "diskMiB")]
    pub disk: Range,
}

/// The least and the most.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The least.
    pub least: u32,
    /// The most.
    pub most: u32,
}

const TEXT: &str = include_str!("../../../lib/policy/defaults.json");

impl Defaults {
    /// The defaults this program was built with.
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
