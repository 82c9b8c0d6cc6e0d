//! Talks to QEMU's control socket (QMP): one JSON object per line each way (QEMU's docs/interop/qmp-spec.rst).

mod figures;

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Take, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::guest::manifest::PowerOff;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;

pub use self::figures::{Disk, DiskCounts, Figures, figures, memory};

/// Time limit of one exchange. QEMU answers within milliseconds; after this it counts as hung. Shorter than the limits
/// of `stop` and `status`.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// Largest amount of data in one exchange, in bytes; a few KiB are usual.
const MOST: u64 = 1 << 20;

/// Longest name of a run state that we accept, in bytes; QEMU's own are shorter.
const LONGEST_STATE: usize = 40;

/// QEMU's run state after the guest's disk found no space on the host.
pub const FULL_DISK: &str = "io-error";

/// One connection to QMP, from the greeting on.
struct Client<'a> {
    answers: BufReader<Take<Patient<'a>>>,
    stream: &'a UnixStream,
}

/// A message from QEMU; other fields are ignored.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    desc: String,
}

impl<'a> Client<'a> {
    /// Reads QEMU's greeting and enters command mode.
    fn greet(stream: &'a UnixStream) -> Result<Self> {
        let patient = Patient { stream, until: Instant::now() + TIMEOUT };
        let mut client = Self { answers: BufReader::new(patient.take(MOST)), stream };
        client.message().context("QEMU's control socket does not answer")?;
        client.execute("qmp_capabilities", json!({})).context("QEMU's control socket refused the handshake")?;
        Ok(client)
    }

    fn message(&mut self) -> Result<Message> {
        let mut line = Vec::new();
        self.answers.read_until(b'\n', &mut line).context("failed to read from QEMU")?;
        ensure!(line.ends_with(b"\n"), "QEMU closed its control socket");
        serde_json::from_slice(&line).context("QEMU's answer is not valid")
    }

    /// Executes a command and returns its value.
    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        self.stream.write_all(line.as_bytes()).context("failed to write to QEMU")?;
        loop {
            // Between a command and its answer there may be events.
            match self.message()? {
                Message { error: Some(problem), .. } => bail!("{command}: {}", problem.desc.escape_debug()),
                Message { value: Some(value), .. } => return Ok(value),
                Message { .. } => {}
            }
        }
    }
}

/// Reads until a deadline, since a compromised QEMU could send single bytes for ever.
struct Patient<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Connects to the socket of a machine.
///
/// # Errors
/// The socket does not exist or does not answer.
pub fn connect(run: &RunDir) -> Result<UnixStream> {
    // Open the path first and check the file: a compromised QEMU could put a link to another program's socket there.
    let path = run.file(MachinePath::QmpSocket);
    let socket = open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .context("QEMU's control socket does not exist")?;
    let is = FileType::from_raw_mode(fstat(&socket).context("failed to inspect QEMU's control socket")?.st_mode);
    ensure!(is == FileType::Socket, "{} is not a socket", path.display());
    // The path of a socket is limited to 107 bytes; a path through its descriptor is always short.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .context("failed to build the address of QEMU's control socket")?;
    let failed = "failed to connect to QEMU's control socket";
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(failed)?;
    // Set before connecting: a suspended QEMU accepts no connection, and its queue may be full.
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(TIMEOUT)).context(failed)?;
    rustix::net::connect(&stream, &address).context(failed)?;
    Ok(stream.into())
}

/// Returns QEMU's run state: `running`, `paused`, `guest-panicked`…
///
/// # Errors
/// QEMU does not answer.
pub fn run_state(run: &RunDir) -> Result<String> {
    let stream = connect(run)?;
    let answer =
        Client::greet(&stream)?.execute("query-status", json!({})).context("QEMU does not report its state")?;
    let name = answer.get("status").and_then(Value::as_str).context("QEMU reported an unknown state")?;
    let is_name = name.len() <= LONGEST_STATE && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    ensure!(is_name, "QEMU reported an unknown state");
    Ok(name.to_owned())
}

/// Sends the power-off request to the guest.
///
/// # Errors
/// QEMU does not answer.
pub fn power_off(run: &RunDir, how: PowerOff) -> Result<()> {
    let stream = connect(run)?;
    let mut client = Client::greet(&stream)?;
    match how {
        PowerOff::Acpi => client.execute("system_powerdown", json!({})),
        PowerOff::CtrlAltDelete => {
            let keys = ["ctrl", "alt", "delete"].map(|key| json!({ "type": "qcode", "data": key }));
            client.execute("send-key", json!({ "keys": keys }))
        }
    }
    .context("QEMU failed to send the power-off request")?;
    Ok(())
}

/// Executes a command and returns its value.
///
/// # Errors
/// QEMU does not answer, or refuses the command.
pub fn command(run: &RunDir, name: &str, arguments: Value) -> Result<Value> {
    let stream = connect(run)?;
    Client::greet(&stream)?.execute(name, arguments)
}

/// Makes QEMU exit without waiting for its guest.
///
/// # Errors
/// QEMU does not answer.
pub fn quit(run: &RunDir) -> Result<()> {
    command(run, "quit", json!({})).map(drop).context("QEMU failed to quit")
}

/// Pauses the guest.
///
/// # Errors
/// QEMU does not answer.
pub fn pause(run: &RunDir) -> Result<()> {
    command(run, "stop", json!({})).map(drop).context("QEMU failed to pause the guest")
}

/// Lets a paused guest go on.
///
/// # Errors
/// QEMU does not answer.
pub fn go_on(run: &RunDir) -> Result<()> {
    command(run, "cont", json!({})).map(drop).context("QEMU failed to let the guest go on")
}

/// Lets a guest go on that QEMU paused because its disk had no space on the host. Returns whether it did.
///
/// # Errors
/// QEMU does not answer.
pub fn go_on_after_full_disk(run: &RunDir) -> Result<bool> {
    // QEMU reports every other error of a disk to the guest, and does not pause.
    if run_state(run)? != FULL_DISK {
        return Ok(false);
    }
    go_on(run).map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_is_connected_to_and_a_link_to_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::of(dir.path());
        let place = run.file(MachinePath::Qemu);
        std::fs::create_dir_all(&place).unwrap();
        assert!(connect(&run).is_err());
        let (own, others) = (run.file(MachinePath::QmpSocket), dir.path().join("others"));
        let _others = UnixListener::bind(&others).unwrap();
        std::os::unix::fs::symlink(&others, &own).unwrap();
        assert!(format!("{:#}", connect(&run).unwrap_err()).contains("is not a socket"));
        std::fs::remove_file(&own).unwrap();
        let _own = UnixListener::bind(&own).unwrap();
        assert!(connect(&run).is_ok());
    }

    /// A suspended QEMU accepts no connection: once the queue is full, connecting must not block.
    #[test]
    fn a_socket_without_a_listener_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::of(dir.path());
        std::fs::create_dir_all(run.file(MachinePath::Qemu)).unwrap();
        let _socket = rustix_listener(&run.file(MachinePath::QmpSocket));
        let began = Instant::now();
        let first = connect(&run).unwrap();
        let (_second, third) = (connect(&run), connect(&run));
        assert!(third.is_err() && began.elapsed() < 4 * TIMEOUT);
        assert!(Client::greet(&first).is_err());
    }

    /// Returns a listener like QEMU's, with a queue of one connection.
    fn rustix_listener(path: &std::path::Path) -> std::os::fd::OwnedFd {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        socket
    }

    /// Returns the result of one command if QEMU sends these lines, and the lines that the client sent.
    fn talk(lines: &str, command: &str) -> (Result<Value>, String) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(lines.as_bytes()).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = Client::greet(&ours).and_then(|mut client| client.execute(command, json!({ "a": 1 })));
        drop(ours);
        let mut heard = String::new();
        theirs.read_to_string(&mut heard).unwrap();
        (answer, heard)
    }

    #[test]
    fn answers_are_distinguished_from_events_errors_and_the_end() {
        let greeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n{\"return\": {}}\r\n";
        let event = "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n";
        let (answer, heard) = talk(&format!("{greeting}{event}{{\"return\": {{\"status\": \"running\"}}}}\r\n"), "x");
        assert_eq!(answer.unwrap(), json!({ "status": "running" }));
        let sent: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(sent[0]["execute"], "qmp_capabilities");
        assert_eq!(sent[1], json!({ "execute": "x", "arguments": { "a": 1 } }));
        for (rest, said) in [
            ("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b\"}}\n", "x: no\\u{1b}"),
            ("{\"return\": {}}", "closed"),
            ("{]\n", "not valid"),
            (event, "closed"),
        ] {
            let (answer, _) = talk(&format!("{greeting}{rest}"), "x");
            let error = format!("{:#}", answer.unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn an_endless_greeting_ends() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || while theirs.write_all(&[b' '; 1 << 16]).is_ok() {});
        assert!(Client::greet(&ours).is_err());
        drop(ours);
        writer.join().unwrap();
    }

    #[test]
    fn the_time_limit_covers_a_whole_exchange() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut patient = Patient { stream: &ours, until: Instant::now() };
        assert_eq!(patient.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
