//! A stand-in for a started machine's services: greets as sshd does, and answers as the reverse proxy and an MCP server
//! do.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::mcp_server::{Request, answer};
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Site, wait_until};

/// The services of one machine, on the ports that its start has chosen, with the reverse proxy's credentials.
pub struct GuestServices {
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

/// The credentials that agent-vm passes to a machine's reverse proxy.
struct ReverseProxy {
    tls: Option<Arc<ServerConfig>>,
    token: Option<String>,
}

impl ReverseProxy {
    fn of(credentials: &Path) -> Self {
        let read = |name: &str| std::fs::read(credentials.join(name)).unwrap();
        let settings: Value = serde_json::from_slice(&read("agent-vm.mcp-endpoint")).unwrap();
        let tls = (settings["tls"] == true).then(|| {
            let certificate = CertificateDer::from_pem_slice(&read("agent-vm.mcp-cert")).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&read("agent-vm.mcp-key")).unwrap();
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
            Arc::new(config.unwrap())
        });
        let token = String::from_utf8(read("agent-vm.mcp-token")).unwrap();
        Self { tls, token: (settings["auth"] == true).then_some(token) }
    }
}

impl GuestServices {
    /// Waits in a thread until the machine starts, and then answers.
    pub fn of(site: &Site, machine: &str) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Request>>>::default());
        let (run, stopped, noted) = (site.machine(machine).join("run"), Arc::clone(&stop), Arc::clone(&asked));
        // Until the stand-in for QEMU runs, no port answers.
        let up = site.path("record/runner.cwd");
        let thread = std::thread::spawn(move || serve(&run, &up, &stopped, &noted));
        Self { stop, asked, thread: Some(thread) }
    }

    /// Returns the requests that MCP has received so far.
    pub fn requests(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for GuestServices {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(run: &Path, up: &Path, stopped: &Arc<AtomicBool>, asked: &Arc<Mutex<Vec<Request>>>) {
    let mut chosen: Option<Value> = None;
    wait_until("the machine's ports", || {
        let facts = std::fs::read_to_string(run.join("ports.json")).ok();
        chosen = facts.and_then(|text| serde_json::from_str(&text).ok());
        (chosen.is_some() && up.exists()) || stopped.load(Ordering::Relaxed)
    });
    let Some(chosen) = chosen else { return };
    let proxy = Arc::new(ReverseProxy::of(&run.join("qemu/credentials")));
    let listen = |name: &str| {
        let port = u16::try_from(chosen[name].as_u64().unwrap()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    };
    let (ssh, mcp) = (listen("ssh_port"), listen("port"));
    let mut connections = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        if let Ok((mut stream, _)) = ssh.accept() {
            drop(stream.write_all(b"SSH-2.0-stand-in\r\n"));
        }
        if let Ok((stream, _)) = mcp.accept() {
            connections.extend(stream.try_clone());
            let (proxy, asked, stopped) = (Arc::clone(&proxy), Arc::clone(asked), Arc::clone(stopped));
            std::thread::spawn(move || admit(stream, &proxy, &asked, &stopped));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // As those of a machine that stops.
    for connection in connections {
        drop(connection.shutdown(Shutdown::Both));
    }
}

fn admit(stream: TcpStream, proxy: &ReverseProxy, asked: &Mutex<Vec<Request>>, stopped: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let closing = stream.try_clone().unwrap();
    match &proxy.tls {
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config)).unwrap();
            converse(StreamOwned::new(connection, stream), proxy, asked, stopped);
        }
        None => converse(stream, proxy, asked, stopped),
    }
    // `serve` has the connection, too.
    drop(closing.shutdown(Shutdown::Both));
}

/// Answers requests on one connection until the client closes it or an answer ends it.
fn converse(stream: impl Read + Write, proxy: &ReverseProxy, asked: &Mutex<Vec<Request>>, stopped: &AtomicBool) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = next_request(&mut stream) {
        let expected = proxy.token.as_ref().map(|token| format!("Bearer {token}"));
        let may = expected.is_none() || request.header("authorization") == expected.as_deref();
        asked.lock().unwrap().push(request.clone());
        let goes_on = if may {
            let everything = || asked.lock().unwrap().clone();
            answer(&request, stream.get_mut(), &everything, stopped)
        } else {
            stream.get_mut().write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").is_ok()
        };
        if !goes_on || stream.get_mut().flush().is_err() {
            return;
        }
    }
}

/// What the stand-in needs of a message.
#[derive(serde::Deserialize)]
struct Head {
    id: Option<Value>,
    method: Option<String>,
}

fn next_request(stream: &mut impl std::io::BufRead) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (verb, path) = (words.next()?, words.next()?);
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let mut request = Request { verb, path, headers, body: Value::Null, text: String::new() };
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    request.text = String::from_utf8_lossy(&body).into_owned();
    // A number that `Value` cannot hold.
    let head = || serde_json::from_slice::<Head>(&body).map(|head| json!({ "id": head.id, "method": head.method }));
    let read = serde_json::from_slice(&body).or_else(|_| head());
    request.body = read.unwrap_or_else(|_| request.text.as_str().into());
    Some(request)
}

/// Returns a site with the running machine `app-main`, and its services.
pub fn running() -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    (site, services)
}
