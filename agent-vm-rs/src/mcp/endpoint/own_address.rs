//! Connections of our own queries, from an address by which the watcher tells them from those of clients.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use crate::machine::in_use::OWN_ADDRESS;

/// Longest time for connecting, if a request has no limit.
const LONGEST: Duration = Duration::from_secs(60);

/// Connects from [`OWN_ADDRESS`].
#[derive(Debug, Default)]
pub struct FromOwnAddress;

impl Connector<()> for FromOwnAddress {
    type Out = OwnTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<OwnTransport>, ureq::Error> {
        let limit = details.timeout.not_zero().map_or(LONGEST, |limit| *limit);
        let mut failed = io::Error::from(io::ErrorKind::ConnectionRefused);
        for address in &details.addrs {
            match from_own_address(*address, limit) {
                Ok(stream) => {
                    let buffers =
                        LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
                    return Ok(Some(OwnTransport { stream, buffers }));
                }
                // Linux reports a connect that takes too long as EINPROGRESS or EAGAIN.
                Err(error) if is_late(&error) => return Err(ureq::Error::Timeout(ureq::Timeout::Connect)),
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }
}

fn from_own_address(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(OWN_ADDRESS, 0))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    connect(&socket, &address)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        || error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
}

/// One connection.
pub struct OwnTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl fmt::Debug for OwnTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnTransport").field("to", &self.stream.peer_addr().ok()).finish()
    }
}

fn or_timeout(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    if is_late(&error) { ureq::Error::Timeout(timeout.reason) } else { error.into() }
}

impl Transport for OwnTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| or_timeout(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let read = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| or_timeout(error, timeout))?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        let has_none = self.stream.set_nonblocking(true).is_ok()
            && matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_ok() && has_none
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::mcp::endpoint::connector::Marking;

    #[test]
    fn queries_come_from_an_address_of_their_own() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let serve = |_| {
                let (mut stream, peer) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
                peer.ip()
            };
            [(); 2].map(serve)
        });
        let config = || ureq::Agent::config_builder().proxy(None).build();
        for agent in [Marking::for_queries(config()), Marking::agent(config())] {
            assert_eq!(agent.get(&url).call().unwrap().body_mut().read_to_string().unwrap(), "ok");
        }
        // Control: other requests come from the usual address.
        assert_eq!(serving.join().unwrap(), [OWN_ADDRESS, Ipv4Addr::LOCALHOST]);
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let limit = Some(Duration::from_millis(100));
        let agent = Marking::for_queries(ureq::Agent::config_builder().proxy(None).timeout_global(limit).build());
        assert!(matches!(agent.get(&url).call(), Err(ureq::Error::Timeout(_))));
        drop(listener);
        let refused = agent.get(&url).call();
        assert!(matches!(&refused, Err(error) if super::super::was_not_connected(error)), "{refused:?}");
    }
}
