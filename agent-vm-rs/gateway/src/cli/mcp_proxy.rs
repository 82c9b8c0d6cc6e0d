//! mcp-proxy in place of the gateway's own HTTP: it reaches each server through a socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::options::ServeOptions;
use crate::http::Gateway;
use crate::json::Object;
use crate::json::quote;
use crate::socket;

/// Time for an answer of the health path.
const PROBE: Duration = Duration::from_secs(5);

/// Serves the sockets, and starts mcp-proxy.
pub fn start(gateway: &Rc<Gateway>, options: &ServeOptions, program: &Path, level: &str) -> Result<Child, String> {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").ok_or("RUNTIME_DIRECTORY is not set")?;
    let runtime = Path::new(&runtime);
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let own = own.to_string_lossy();
    let mut named = Object::default();
    let mut default = String::new();
    for (number, server) in gateway.servers.iter().enumerate() {
        let name = if number == 0 { "default".to_owned() } else { (number - 1).to_string() };
        let path = runtime.join(name);
        socket::listen(gateway, server, &path)
            .map_err(|error| format!("cannot listen at {}: {error}", path.display()))?;
        let path = path.to_string_lossy();
        if number == 0 {
            default = path.into_owned();
        } else {
            named.set(&server.name, format!(r#"{{"command":{},"args":["connect",{}]}}"#, quote(&own), quote(&path)));
        }
    }
    let config = runtime.join("proxy.json");
    std::fs::write(&config, format!(r#"{{"mcpServers":{named}}}"#))
        .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let level = match level {
        "debug" => "--debug",
        "info" => "--log-level=INFO",
        _ => "--log-level=WARNING",
    };
    Command::new(program)
        .args(options.allow_origin.iter().map(|origin| format!("--allow-origin={origin}")))
        .arg(format!("--host={}", options.host))
        .arg(format!("--port={}", options.port))
        .arg(format!("--named-server-config={}", config.display()))
        .args([level, "--", &own, "connect", &default])
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))
}

/// Asks mcp-proxy to end, and waits for it.
pub async fn stop(child: &mut Child) {
    if let Some(id) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended.
        let _ = kill_process(id, Signal::TERM);
    }
    let _ = child.wait().await;
}

/// Returns whether the health path answers 200.
pub async fn answers(options: &ServeOptions) -> bool {
    let host = match options.host {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", options.health_path);
    let asked = async {
        let mut stream = TcpStream::connect((host, options.port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await?;
        Ok::<_, std::io::Error>(start == *b"HTTP/1.1 200")
    };
    matches!(timeout(PROBE, asked).await, Ok(Ok(true)))
}
