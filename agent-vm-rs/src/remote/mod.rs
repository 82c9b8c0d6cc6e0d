//! Commands inside the guest, over ssh.

pub mod service;
pub mod ssh;
