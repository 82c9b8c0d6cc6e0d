//! Forwards a port into QEMU's network namespace with a limited rate. Used in place of systemd-socket-proxyd for machines whose
//! `network_bandwidth` is set: all of their traffic passes the two forwarded ports, egress that of ssh.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::host::process::Invocation;

/// Largest number of connections at a time, as of systemd-socket-proxyd.
const CONNECTIONS: usize = 256;
/// Time that unused rate accumulates, and the share of a second that one transfer takes at most.
const BURST: Duration = Duration::from_millis(100);
/// Smallest and largest transfer, in bytes.
const TRANSFER: (usize, usize) = (1 << 10, 64 << 10);
/// Time until a changed rate is noticed.
const NOTICED: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// How forwarders limit the rate.
#[derive(Clone, Copy, Debug)]
pub struct Rate<'a> {
    /// Path of agent-vm, which is the forwarder.
    pub ours: &'a Path,
    /// File with the rate in bytes a second. It is changed in place.
    pub file: &'a Path,
}

/// Returns the command of a port's forwarder, to which the target is added. It inherits the port's socket as descriptor 3.
#[must_use]
pub fn command(rate: Rate<'_>) -> Invocation {
    let shell = Invocation::new("/bin/sh").args(["-c", r#"exec "$@" <&3"#, "forward"]);
    shell.arg(rate.ours).args(["forward", "--rate-file"]).arg(rate.file)
}

/// Arguments of the forwarder, whose standard input is the listening socket.
#[derive(Args, Clone, Debug)]
pub struct Forward {
    /// File with the rate in bytes a second; 0 is no limit
    #[arg(long, value_name = "FILE")]
    rate_file: PathBuf,
    /// Address to forward to
    #[arg(value_name = "ADDRESS")]
    target: SocketAddr,
}

impl Forward {
    /// Forwards connections until this process is ended.
    ///
    /// # Errors
    /// Standard input is not a socket, or the rate cannot be read at first.
    pub fn run(&self) -> Result<std::convert::Infallible> {
        let rate = read(&self.rate_file).context("failed to read the network's rate")?;
        let socket = io::stdin().as_fd().try_clone_to_owned().context("failed to use the socket of a port")?;
        let (there, back) = (Arc::new(Bucket::new(rate)), Arc::new(Bucket::new(rate)));
        let (file, buckets) = (self.rate_file.clone(), [Arc::clone(&there), Arc::clone(&back)]);
        thread::spawn(move || follow(&file, &buckets));
        serve(&TcpListener::from(socket), self.target, &there, &back)
    }
}

fn read(file: &Path) -> Result<u64> {
    let text = crate::host::files::read_text(file)?;
    text.trim().parse().with_context(|| format!("{} is not a number", file.display()))
}

/// Applies changes of the rate.
fn follow(file: &Path, buckets: &[Arc<Bucket>; 2]) -> ! {
    loop {
        thread::sleep(NOTICED);
        // A file that is being written has no number for a moment.
        if let Ok(rate) = read(file) {
            buckets.iter().for_each(|bucket| bucket.set(rate));
        }
    }
}

fn serve(
    listener: &TcpListener,
    target: SocketAddr,
    there: &Arc<Bucket>,
    back: &Arc<Bucket>,
) -> Result<std::convert::Infallible> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (open, there, back) = (Arc::clone(&open), Arc::clone(there), Arc::clone(back));
        thread::spawn(move || {
            // A connection that fails ends, as the guest's or the client's own would.
            drop(connect(&client, target, &there, &back));
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Copies both directions of a connection until both have ended.
fn connect(client: &TcpStream, target: SocketAddr, there: &Bucket, back: &Bucket) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server, there));
        copy(&server, client, back);
    });
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, bucket: &Bucket) {
    let mut buffer = vec![0; TRANSFER.1];
    loop {
        let most = bucket.transfer();
        let copied = match buffer.get_mut(..most).map(|part| from.read(part)) {
            Some(Ok(length)) if length > 0 => {
                thread::sleep(bucket.take(length));
                buffer.get(..length).is_some_and(|part| to.write_all(part).is_ok())
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => true,
            _ => false,
        };
        if !copied {
            // Either side may have closed it already.
            drop((to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read)));
            return;
        }
    }
}

/// The rate of one direction, which all connections share.
struct Bucket(Mutex<Level>);

struct Level {
    /// Bytes a second; 0 is no limit.
    rate: u64,
    /// When everything that was taken has passed at this rate.
    passed: Instant,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        let now = Instant::now();
        Self(Mutex::new(Level { rate, passed: now.checked_sub(BURST).unwrap_or(now) }))
    }

    fn level(&self) -> std::sync::MutexGuard<'_, Level> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, rate: u64) {
        let mut level = self.level();
        if level.rate != rate {
            *level = Level { rate, passed: Instant::now() };
        }
    }

    /// Returns the largest number of bytes of one transfer.
    fn transfer(&self) -> usize {
        let rate = match self.level().rate {
            0 => return TRANSFER.1,
            rate => usize::try_from(rate).unwrap_or(usize::MAX),
        };
        (rate / 10).clamp(TRANSFER.0, TRANSFER.1)
    }

    /// Takes bytes and returns the time after which they may pass.
    fn take(&self, bytes: usize) -> Duration {
        let mut level = self.level();
        if level.rate == 0 {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        #[expect(clippy::cast_precision_loss, reason = "a time needs no more than 52 bits")]
        let takes = Duration::from_secs_f64(bytes as f64 / level.rate as f64);
        level.passed = level.passed.max(earliest) + takes;
        level.passed.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate() {
        let bucket = Bucket::new(1 << 20);
        // What has accumulated passes at once.
        assert_eq!(bucket.take(1 << 10), Duration::ZERO);
        let waits: Vec<_> = (0..4).map(|_| bucket.take(1 << 20)).collect();
        for (seconds, wait) in (1..).zip(&waits) {
            let most = Duration::from_secs(seconds);
            assert!(*wait <= most && *wait >= most - 2 * BURST, "{waits:?}");
        }
        bucket.set(0);
        assert_eq!((bucket.take(1 << 30), bucket.transfer()), (Duration::ZERO, TRANSFER.1));
        bucket.set(1);
        assert_eq!(bucket.transfer(), TRANSFER.0);
    }

    /// Returns the time that one connection takes to send this many bytes and to get them back.
    fn echo(rate: u64, bytes: usize) -> Duration {
        let loopback = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, server) = (loopback(), loopback());
        let (address, target) = (port.local_addr().unwrap(), server.local_addr().unwrap());
        thread::spawn(move || {
            let (client, _) = server.accept().unwrap();
            io::copy(&mut &client, &mut &client).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        thread::spawn(move || serve(&port, target, &Arc::new(Bucket::new(rate)), &Arc::new(Bucket::new(rate))));
        let began = Instant::now();
        let client = TcpStream::connect(address).unwrap();
        let sent = vec![7; bytes];
        let got = thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            (&client).read_to_end(&mut got).unwrap();
            got
        });
        assert!(got == sent);
        began.elapsed()
    }

    #[test]
    fn a_connection_is_limited_and_complete() {
        let limited = echo(1 << 20, 1 << 20);
        assert!(limited >= Duration::from_millis(800), "{limited:?}");
        // Control: the same without a limit.
        let free = echo(0, 1 << 20);
        assert!(free < limited, "{free:?} {limited:?}");
    }
}
