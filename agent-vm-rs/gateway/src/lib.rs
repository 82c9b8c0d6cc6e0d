//! `agent-mcp`: serves the MCP servers of a machine over HTTP.

pub mod cli;
pub mod config;
pub mod era;
pub mod http;
pub mod json;
#[cfg(test)]
mod layers;
pub mod link;
pub mod policy;
pub mod pool;
pub mod queue;
pub mod report;
pub mod reverse_proxy;
pub mod session;
pub mod socket;
pub mod supervise;
