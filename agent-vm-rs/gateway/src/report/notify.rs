//! Notifications to systemd, if it started this program.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends a notification, such as `READY=1`. It is lost if systemd does not read: waiting would stop all clients.
pub fn notify(state: &str) {
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET") {
        // Without systemd there is nobody to notify.
        let _ = send(&address, state);
    }
}

fn send(address: &OsStr, state: &str) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

/// Returns the time in which systemd expects a notification of the watchdog.
pub fn watchdog() -> Option<Duration> {
    std::env::var("WATCHDOG_USEC").ok()?.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_arrive_and_never_wait() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let mut read = [0; 16];
        let length = systemd.recv(&mut read).unwrap();
        assert_eq!(&read[..length], b"READY=1");
        // Nobody reads: the queue is full at some point.
        let lost = (0..100_000).any(|_| send(path.as_os_str(), "WATCHDOG=1").is_err());
        assert!(lost);
        let name = format!("@agent-mcp-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let systemd = UnixDatagram::bind_addr(&abstract_name).unwrap();
        send(OsStr::new(&name), "STOPPING=1").unwrap();
        assert_eq!(systemd.recv(&mut read).unwrap(), 10);
    }
}
