//! Listening sockets for a machine's host ports, bound before QEMU starts: QEMU's network namespace cannot bind them.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::term::error::Failure;

/// Maximal number of connections waiting to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket that a child process inherits.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// The port, on the host and in the namespace.
    pub port: u16,
}

impl Listener {
    /// Binds a port.
    ///
    /// # Errors
    /// The port is in use or cannot be bound.
    pub fn bind(address: Ipv4Addr, port: u16) -> Result<Self> {
        let failed = || {
            Failure::new(format!("cannot bind {address}:{port}"))
                .with_hint(format!("ss -ltnp 'sport = {port}' shows which process uses it"))
        };
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).with_context(failed)?;
        sockopt::set_socket_reuseaddr(&socket, true).with_context(failed)?;
        bind(&socket, &SocketAddr::from((address, port))).with_context(failed)?;
        listen(&socket, BACKLOG).with_context(failed)?;
        Ok(Self { socket, port })
    }

    /// Returns the socket, to pass it to a child process.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
