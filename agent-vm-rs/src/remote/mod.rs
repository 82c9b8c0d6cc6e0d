//! Commands inside the guest, over ssh.

pub mod ssh;
