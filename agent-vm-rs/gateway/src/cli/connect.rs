//! Connects standard input and output to a server's socket.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// Runs until either side ends.
pub fn connect(path: &Path) -> ExitCode {
    match pass(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::report::log(crate::report::Priority::Warning, &format!("{}: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

fn pass(path: &Path) -> io::Result<()> {
    let connection = UnixStream::connect(path)?;
    let input = connection.try_clone()?;
    // It ends with the program.
    std::thread::spawn(move || {
        // Either end may be closed.
        let _ = copy(&mut io::stdin().lock(), &mut &input);
        let _ = input.shutdown(Shutdown::Both);
    });
    copy(&mut &connection, &mut io::stdout().lock())
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
        to.flush()?;
    }
}
