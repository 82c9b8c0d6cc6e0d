//! QEMU's control socket.

use std::fs::File;
use std::io::BufRead as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qapi::{Qmp, Stream, qmp};

use crate::manifest::PowerOff;
use crate::plan::{QEMU_DIR, QMP_SOCKET};
use crate::run_state::RunDir;

/// An answer from QEMU takes milliseconds; this is when we call it hung.
const PATIENCE: Duration = Duration::from_secs(5);

type Client<'a> = Qmp<Stream<std::io::BufReader<&'a UnixStream>, &'a UnixStream>>;

/// Connects to the socket of a machine.
///
/// # Errors
/// There is none, or nobody answers it.
pub fn connect(run: &RunDir) -> Result<UnixStream> {
    // A socket's path may have 107 bytes; through the directory's descriptor it is short wherever it is.
    let dir = File::open(run.file(QEMU_DIR)).context("failed to open the run directory")?;
    let path = format!("/proc/self/fd/{}/{QMP_SOCKET}", dir.as_raw_fd());
    let stream = UnixStream::connect(path).context("failed to connect to QEMU's control socket")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .context("failed to bound the control socket")?;
    Ok(stream)
}

fn greet(stream: &UnixStream) -> Result<Client<'_>> {
    let mut client = Qmp::from_stream(stream);
    let greeting = client.inner_mut().fill_buf().context("QEMU's control socket does not answer")?;
    ensure!(!greeting.is_empty(), "QEMU closed its control socket");
    client.handshake().context("QEMU's control socket refuses us")?;
    Ok(client)
}

/// QEMU's word for what the machine does: `running`, `paused`, `guest-panicked`…
///
/// # Errors
/// QEMU does not answer.
pub fn run_state(run: &RunDir) -> Result<String> {
    let stream = connect(run)?;
    let status = greet(&stream)?.execute(&qmp::query_status {}).context("QEMU does not tell its state")?;
    let name = serde_json::to_value(status.status).context("QEMU's state has no name")?;
    Ok(name.as_str().unwrap_or("unknown").to_owned())
}

/// Presses the key that the guest powers off at.
///
/// # Errors
/// QEMU does not answer.
pub fn power_off(run: &RunDir, how: PowerOff) -> Result<()> {
    let stream = connect(run)?;
    let mut client = greet(&stream)?;
    match how {
        PowerOff::Acpi => client.execute(&qmp::system_powerdown {}),
        PowerOff::CtrlAltDelete => {
            use qmp::QKeyCode::{alt, ctrl, delete};
            let keys = [ctrl, alt, delete].map(|key| qmp::KeyValue::qcode(qmp::QKeyCodeWrapper { data: key }));
            client.execute(&qmp::send_key { keys: keys.into(), hold_time: None })
        }
    }
    .context("QEMU does not press the power button")?;
    Ok(())
}
