//! The host's ports of a machine, bound before QEMU is started: its namespace has no other way to have them.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::term::error::Failure;

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
                .with_hint(format!("ss -ltnp 'sport = {port}' shows who has it"))
        };
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).with_context(failed)?;
        sockopt::set_socket_reuseaddr(&socket, true).with_context(failed)?;
        bind(&socket, &SocketAddr::from((address, port))).with_context(failed)?;
        listen(&socket, BACKLOG).with_context(failed)?;
        Ok(Self { socket, port })
    }

    /// The socket, for a program that is started to get.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
