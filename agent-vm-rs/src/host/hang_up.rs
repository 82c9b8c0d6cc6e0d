//! Notices that nobody reads our output any more: the ssh session that started us has ended.

use std::io;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};

/// Sends this process SIGHUP once the other end of its standard output or error is closed, as a terminal that goes away does. sshd
/// sends no signal to a program without a terminal; and if only the client has ended, and not the connection that it shared, sshd
/// closes the output alone. A file or a terminal has no other end.
pub fn watch() {
    thread::spawn(|| {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        loop {
            let mut ends = [PollFd::new(&stdout, PollFlags::empty()), PollFd::new(&stderr, PollFlags::empty())];
            match poll(&mut ends, None) {
                Ok(_) if ends.iter().any(|end| end.revents().intersects(PollFlags::ERR | PollFlags::HUP)) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
        // This process exists.
        let _sent = kill_process(getpid(), Signal::HUP);
    });
}
