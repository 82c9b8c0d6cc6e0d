//! The guest's only egress: a proxy on the host, reached through an ssh reverse tunnel.
//!
//! QEMU's user network has no route (`restrict=on`). The host logs in by ssh and lets sshd listen on the guest's loopback;
//! connections to that port reach mitmproxy, which applies the machine's rules.

pub mod authority;
pub mod log;
pub mod proxy_args;
pub mod rules;
pub mod secrets;
pub mod supervise;
pub mod upstream;
