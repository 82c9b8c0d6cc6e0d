//! The host's ports of a machine, bound before QEMU is started: its namespace has no other way to have them.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::error::Failure;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A port that programs we start inherit.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// The port, on the host and inside.
    pub port: u16,
}

impl Listener {
    /// Binds a port.
    ///
    /// # Errors
    /// Somebody has it.
    pub fn bind(address: Ipv4Addr, port: u16) -> Result<Self> {
        let failed = || {
            Failure::new(format!("port {port} of {address} cannot be had"))
                .hint(format!("ss -ltnp 'sport = {port}' shows who has it"))
        };
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).with_context(failed)?;
        sockopt::set_socket_reuseaddr(&socket, true).with_context(failed)?;
        bind(&socket, &SocketAddr::from((address, port))).with_context(failed)?;
        listen(&socket, BACKLOG).with_context(failed)?;
        Ok(Self { socket, port })
    }

    /// Its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether programs that are started from now on get it.
    ///
    /// # Errors
    /// Never: the descriptor is open.
    pub fn inherit(&self, yes: bool) -> Result<()> {
        let flags = if yes { FdFlags::empty() } else { FdFlags::CLOEXEC };
        fcntl_setfd(&self.socket, flags).context("failed to pass a port on")
    }
}
