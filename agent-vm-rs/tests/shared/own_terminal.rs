//! A terminal of a test, in which a command runs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// Longest time to wait for output or an end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of setsid before a command: a shell leads the session, as it does for a user. When a leader ends, the kernel
/// hangs up.
pub const LED_BY_A_SHELL: [&str; 4] = ["--ctty", "sh", "-c", "\"$0\" \"$@\"; exit $?"];

/// A terminal and the command in it.
pub struct OwnTerminal {
    master: Option<File>,
    /// Keeps the terminal and its modes after the command.
    slave: File,
    output: Vec<u8>,
    child: Child,
}

impl OwnTerminal {
    /// Runs a command, which starts with setsid and [`LED_BY_A_SHELL`], in a new terminal of 33 lines and 101 columns.
    pub fn run(command: &mut Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let slave = File::from(open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap());
        fcntl_setfl(&master, OFlags::NONBLOCK).unwrap();
        resize(&master, 33, 101);
        let stream = || slave.try_clone().unwrap();
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        Self { master: Some(master.into()), slave, output: Vec::new(), child }
    }

    /// Returns what the terminal has shown.
    pub fn output(&mut self) -> String {
        let mut buffer = [0; 4096];
        while let Some(Ok(length @ 1..)) = self.master.as_mut().map(|master| master.read(&mut buffer)) {
            self.output.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Waits until the terminal has shown a text.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let shown = self.wait(|terminal| terminal.output().contains(text));
        assert!(shown, "the terminal does not show {text:?}:\n{}", self.output());
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        self.master.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, lines: u16, columns: u16) {
        resize(self.master.as_ref().unwrap(), lines, columns);
    }

    /// Closes the terminal, as a closed window does.
    pub fn close(&mut self) {
        self.master = None;
    }

    /// Returns whether the terminal echoes and edits lines, as before the command.
    pub fn is_restored(&self) -> bool {
        let wanted = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcgetattr(&self.slave).unwrap().local_modes.contains(wanted)
    }

    /// Returns the pid of the shell's command.
    pub fn pid(&self) -> u32 {
        let leader = self.child.id();
        std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap().trim().parse().unwrap()
    }

    /// Waits until the shell ends, and returns the command's exit code; None after a hang-up.
    #[track_caller]
    pub fn ends(&mut self) -> Option<i32> {
        let mut code = None;
        let ended = self.wait(|terminal| {
            terminal.output();
            code = terminal.child.try_wait().unwrap();
            code.is_some()
        });
        assert!(ended, "the command does not end:\n{}", self.output());
        code.and_then(|code| code.code())
    }

    fn wait(&mut self, mut so: impl FnMut(&mut Self) -> bool) -> bool {
        let end = Instant::now() + TIMEOUT;
        while !so(self) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resize(master: impl AsFd, lines: u16, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}
