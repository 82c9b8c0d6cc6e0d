//! What serves MCP in a machine.

use serde::{Deserialize, Serialize};

/// The program that serves MCP over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum McpProxy {
    /// agent-vm's own gateway.
    #[default]
    Gateway,
    /// mcp-proxy of PyPI or nixpkgs.
    McpProxy,
}

impl McpProxy {
    /// Returns its name in settings and in `lib/policy/agent-mcp.nix`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::McpProxy => "mcp-proxy",
        }
    }
}
