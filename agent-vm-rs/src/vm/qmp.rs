//! QEMU's control socket: one JSON object a line each way (QEMU's docs/interop/qmp-spec.rst).

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

/// An answer from QEMU takes milliseconds; this is when we call it hung. Less than a stop, or a look, may take.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// All that one talk needs is a few KiB.
const MOST: u64 = 1 << 20;

/// Longest name of a state, in bytes; QEMU's own are shorter.
const LONGEST_STATE: usize = 40;

/// One talk, from the greeting on.
struct Client<'a> {
    answers: BufReader<Take<Patient<'a>>>,
    stream: &'a UnixStream,
}

/// What QEMU sends, as far as it is looked at.
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
    /// Takes QEMU's greeting and begins to give commands.
    fn greet(stream: &'a UnixStream) -> Result<Self> {
        let patient = Patient { stream, until: Instant::now() + TIMEOUT };
        let mut client = Self { answers: BufReader::new(patient.take(MOST)), stream };
        client.message().context("QEMU's control socket does not answer")?;
        client.execute("qmp_capabilities", json!({})).context("QEMU's control socket refuses us")?;
        Ok(client)
    }

    fn message(&mut self) -> Result<Message> {
        let mut line = Vec::new();
        self.answers.read_until(b'\n', &mut line).context("failed to read from QEMU")?;
        ensure!(line.ends_with(b"\n"), "QEMU closed its control socket");
        serde_json::from_slice(&line).context("QEMU's answer is not valid")
    }

    /// Runs a command and returns what it returns.
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

/// Reads until a time: a QEMU that was taken over may send a byte now and then, for ever.
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
/// There is none, or nobody answers it.
pub fn connect(run: &RunDir) -> Result<UnixStream> {
    // Opened first: a QEMU that was taken over can put a link to another program's socket there at any time.
    let path = run.file(MachinePath::QmpSocket);
    let socket = open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .context("QEMU's control socket is not there")?;
    let is = FileType::from_raw_mode(fstat(&socket).context("failed to look at QEMU's control socket")?.st_mode);
    ensure!(is == FileType::Socket, "{} is no socket", path.display());
    // A socket's path may have 107 bytes; through its descriptor it is short wherever it is.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .context("failed to name QEMU's control socket")?;
    let failed = "failed to connect to QEMU's control socket";
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(failed)?;
    // Set first, and for connecting too: a QEMU that does not run accepts none, and so many may wait to be accepted.
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(TIMEOUT)).context(failed)?;
    rustix::net::connect(&stream, &address).context(failed)?;
    Ok(stream.into())
}

/// QEMU's word for what the machine does: `running`, `paused`, `guest-panicked`…
///
/// # Errors
/// QEMU does not answer.
pub fn run_state(run: &RunDir) -> Result<String> {
    let stream = connect(run)?;
    let answer = Client::greet(&stream)?.execute("query-status", json!({})).context("QEMU does not tell its state")?;
    let name = answer.get("status").and_then(Value::as_str).context("QEMU's state has no name")?;
    let is_name = name.len() <= LONGEST_STATE && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    ensure!(is_name, "QEMU's state is no name of a state");
    Ok(name.to_owned())
}

/// Presses the key that the guest powers off at.
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
    .context("QEMU does not press the power button")?;
    Ok(())
}

/// Has QEMU end, whatever its guest does.
///
/// # Errors
/// QEMU does not answer.
pub fn quit(run: &RunDir) -> Result<()> {
    let stream = connect(run)?;
    Client::greet(&stream)?.execute("quit", json!({})).context("QEMU does not quit")?;
    Ok(())
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
        assert!(format!("{:#}", connect(&run).unwrap_err()).contains("is no socket"));
        std::fs::remove_file(&own).unwrap();
        let _own = UnixListener::bind(&own).unwrap();
        assert!(connect(&run).is_ok());
    }

    /// One that is suspended accepts nobody: as many connections as may wait do, and the next one is not waited for.
    #[test]
    fn a_socket_that_nobody_accepts_at_is_not_waited_for() {
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

    /// A listener as QEMU's, at which one connection may wait.
    fn rustix_listener(path: &std::path::Path) -> std::os::fd::OwnedFd {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        socket
    }

    /// What a talk of one command comes to when QEMU says these lines.
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
    fn answers_are_told_from_events_errors_and_the_end() {
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
    fn patience_is_for_all_of_a_talk() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut patient = Patient { stream: &ours, until: Instant::now() };
        assert_eq!(patient.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
