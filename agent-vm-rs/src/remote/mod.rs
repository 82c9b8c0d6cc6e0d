//! Commands inside the guest over ssh, and of another host.

pub mod agent;
pub mod other_host;
pub mod servers;
pub mod service;
pub mod sessions;
pub mod ssh;
