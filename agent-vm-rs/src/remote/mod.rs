//! Programs in the guest, run over ssh.

pub mod servers;
pub mod service;
pub mod ssh;
