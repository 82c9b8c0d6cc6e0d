//! The guest's only way out: a proxy on the host, reached through a tunnel that the host makes.
//!
//! QEMU's network leads nowhere (`restrict=on`). The host logs in by ssh and has sshd listen on the guest's loopback
//! for it; what connects there comes out at mitmproxy, which decides by the machine's rules.

pub mod authority;
pub mod log;
pub mod proxy_args;
pub mod rules;
pub mod secrets;
pub mod supervise;
