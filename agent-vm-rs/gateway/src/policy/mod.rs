//! The values of lib/policy that the programs in the guest need.

pub mod grammar;

use std::sync::LazyLock;

use serde::Deserialize;

/// Contents of mcp.json.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mcp {
    /// URL path of a server's streamable HTTP endpoint.
    pub mcp_path: String,
    /// URL path of a server's HTTP+SSE endpoint.
    pub sse_path: String,
    /// URL path to which clients of the HTTP+SSE endpoint send.
    pub messages_path: String,
    /// URL path that answers whether the gateway runs.
    pub health_path: String,
    /// URL path below which the named servers are.
    pub servers_path: String,
    /// Maximal size of a message in bytes.
    pub longest_message: usize,
}

/// The values of mcp.json.
pub static MCP: LazyLock<Mcp> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../../lib/policy/mcp.json")).unwrap_or_else(|_| Mcp {
        mcp_path: "/mcp".to_owned(),
        sse_path: "/sse".to_owned(),
        messages_path: "/messages".to_owned(),
        health_path: "/status".to_owned(),
        servers_path: "/servers".to_owned(),
        longest_message: 1 << 26,
    })
});

/// Versions with sessions, newest first.
pub const SESSION_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Version without sessions.
pub const STATELESS: &str = "2026-07-28";

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_is_valid() {
        let read: super::Mcp = serde_json::from_str(include_str!("../../../../lib/policy/mcp.json")).unwrap();
        assert_eq!(read.mcp_path, super::MCP.mcp_path);
        assert!(read.longest_message > 1 << 20);
    }
}
