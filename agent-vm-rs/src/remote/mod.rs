//! Commands inside the guest, over ssh.

pub mod servers;
pub mod service;
pub mod ssh;
