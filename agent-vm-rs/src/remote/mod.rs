//! Programs in the guest, run over ssh.

pub mod agent;
pub mod servers;
pub mod service;
pub mod sessions;
pub mod ssh;
