//! `agent-mcp`: serves the MCP servers of a machine over HTTP.
//!
//! # Processes
//!
//! A client with a session (versions 2024-11-05 to 2025-11-25) has a process of the server for itself, as the protocol intends
//! for servers on standard input and output. Clients therefore see nothing of each other's answers, requests, subscriptions and
//! log levels, and the server learns the client's own capabilities. Messages pass as the bytes that were received.
//!
//! Clients without a session (2026-07-28) share a process, except that a call has one for itself while the server may ask its
//! client something or log for it, which would not name the call. A client that calls one after the other always gets the same
//! process, because servers keep state. A server that knows the version itself has one process, and further ones only for
//! concurrent calls that want log messages.
//!
//! When the gateway starts, each server gets one process, which is sent `ping`; it shows whether the server runs, and waits for
//! the first session. The default server then gets a spare process, which has been sent nothing: the next session takes it, and
//! another one is started. The other servers start a process when a session needs one, because a machine has little memory. A
//! server has at most 16 processes; beyond that, the session that was not used for the longest time ends, or a new one is
//! refused.
//!
//! The first process gets an `initialize` of the gateway, and serves clients without a session, if such a client comes before
//! a session has taken it, or if it does not answer `ping` with a result. A server that ends at `ping` is started without it.
//!
//! # Versions
//!
//! A process gets the client's own `initialize`. If it refuses that and knows `server/discover`, the session is translated. A
//! client without a session makes the gateway ask a fresh process for `server/discover` once, as 2026-07-28 recommends; if it
//! does not know that, the calls are translated. [`era`] has both translations.
//!
//! # Limits
//!
//! A server that ends, hangs or writes nonsense harms its own clients only. Every queue is bounded: a client that does not read
//! delays its own process, and loses its call if others share that.

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
