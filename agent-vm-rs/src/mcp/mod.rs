//! The MCP endpoint of a machine: its certificates, health, stdio bridge and client configuration.

pub mod bridge;
pub mod client_config;
pub mod compare;
pub mod endpoint;
pub mod health;
