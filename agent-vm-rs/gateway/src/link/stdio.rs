//! A server that is a process: its input, its messages and its standard error.

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::lines::{Line, Lines};
use super::{Ended, Link, Shared, Stop};
use crate::json::{Message, parse_batch};
use crate::policy::MCP;
use crate::report::{Priority, log_long};

/// Number of successive output lines that are not MCP messages after which a program is no MCP server.
const MOST_NOISE: usize = 1000;
/// Maximal length of a logged line of a server's standard error.
const LONGEST_WORDS: usize = 4096;
/// Maximal number of characters of that line in the server's state.
const LAST_WORDS: usize = 200;
/// Time for a program to end after its input is closed.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Time for a program to end after a signal, and for its output to end after it has.
const GRACE: Duration = Duration::from_secs(1);

const NO_SERVER: &str = "writes lines that are not MCP messages";
const NO_OUTPUT: &str = "closed its standard output";
const NO_INPUT: &str = "closed its standard input";

/// Starts a program in a directory.
pub fn spawn(name: &str, argv: &[String], env: &[(String, String)], directory: &Path) -> io::Result<Link> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(env.iter().map(|(name, value)| (name, value)))
        // For the gateway alone.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A process group of its own, so that its children can be ended with it.
        .process_group(0)
        .spawn()?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let (link, shared) = Link::new();
    shared.group.set(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    spawn_local(run(child, stdin, stdout, stderr, name.to_owned(), shared));
    Ok(link)
}

async fn run(
    mut child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    name: String,
    shared: Rc<Shared>,
) {
    // Of a pipe, either end knows whether the other one is closed.
    let mut input = watch(&stdin);
    let signal = |signal| {
        if let Some(group) = shared.group.get() {
            // Nobody may be left.
            let _ = kill_process_group(group, signal);
        }
    };
    let writer = spawn_local(write(stdin, Rc::clone(&shared)));
    let mut reader = spawn_local(read(stdout, Rc::clone(&shared)));
    let last_line = Rc::new(RefCell::new(String::new()));
    let errors = spawn_local(read_errors(stderr, name, Rc::clone(&last_line)));
    let mut verdict = None;
    let mut status = None;
    // Without output or input there are no answers, even if the program still runs. It may be about to end.
    tokio::select! {
        wrong = &mut reader => {
            verdict = wrong.unwrap_or_default();
            if verdict.is_none() {
                (status, verdict) = end_of(&mut child, NO_OUTPUT).await;
            }
        }
        () = closed(input.as_ref()) => {
            (status, verdict) = end_of(&mut child, NO_INPUT).await;
            // The last messages.
            if status.is_some() && let Ok(wrong) = timeout(GRACE, &mut reader).await {
                verdict = wrong.unwrap_or_default();
            }
        }
        ended = child.wait() => {
            status = ended.ok();
            // A child of it may keep its output open.
            if let Ok(wrong) = timeout(GRACE, &mut reader).await {
                verdict = wrong.unwrap_or_default();
            }
        }
        () = stopping(&shared) => {
            drop(input.take());
            status = wind_down(&mut child, &shared, signal).await;
        }
    }
    signal(Signal::KILL);
    let status = match status {
        Some(status) => Some(status),
        None => child.wait().await.ok(),
    };
    // Wait for the last lines of standard error. A child that left the process group may keep it open.
    let errors_abort = errors.abort_handle();
    let _ = timeout(GRACE, errors).await;
    errors_abort.abort();
    writer.abort();
    reader.abort();
    let left_input = input.is_some_and(|input| ioctl_fionread(&input).is_ok_and(|bytes| bytes > 0));
    let verdict = shared.verdict.borrow_mut().take().or(verdict.map(str::to_owned));
    let last_line = last_line.borrow().clone();
    shared.end(Ended {
        code: status.and_then(|status: ExitStatus| status.code()),
        signal: status.and_then(|status| status.signal()),
        verdict,
        last_line,
        left_input,
    });
}

/// Ends a program as gently as it was asked for; returns its status if it ended by itself.
async fn wind_down(child: &mut Child, shared: &Shared, signal: impl Fn(Signal)) -> Option<ExitStatus> {
    if shared.stop.get() == Stop::Close {
        shared.to.close();
        tokio::select! {
            status = child.wait() => return status.ok(),
            () = sleep(CLOSE_GRACE) => {}
            () = shared.stopped.notified() => {}
        }
    }
    if shared.stop.get() < Stop::Kill {
        signal(Signal::TERM);
        tokio::select! {
            status = child.wait() => return status.ok(),
            () = sleep(GRACE) => {}
            () = shared.stopped.notified() => {}
        }
    }
    None
}

/// Waits for a program to end by itself; if it does not, returns what is wrong with it.
async fn end_of(child: &mut Child, wrong: &'static str) -> (Option<ExitStatus>, Option<&'static str>) {
    match timeout(GRACE, child.wait()).await {
        Ok(status) => (status.ok(), None),
        Err(_) => (None, Some(wrong)),
    }
}

/// Returns what tells when a program closes its input. It keeps that open as well.
fn watch(stdin: &ChildStdin) -> Option<Sender> {
    let own = stdin.as_fd().try_clone_to_owned().ok()?;
    Sender::from_owned_fd(own).ok()
}

async fn closed(input: Option<&Sender>) {
    match input {
        Some(input) => drop(input.ready(Interest::ERROR).await),
        None => pending().await,
    }
}

async fn stopping(shared: &Shared) {
    while shared.stop.get() == Stop::Not {
        shared.stopped.notified().await;
    }
}

/// Writes the queued messages; closes the input when the queue is closed.
async fn write(mut stdin: ChildStdin, shared: Rc<Shared>) {
    while let Some(line) = shared.to.pop().await {
        let mut line = line.to_vec();
        line.push(b'\n');
        if stdin.write_all(&line).await.is_err() {
            // The reader of the output sees its end and reports it.
            return;
        }
    }
}

/// Reads messages until the output ends; returns what is wrong with the output, if that ended it.
async fn read(stdout: ChildStdout, shared: Rc<Shared>) -> Option<&'static str> {
    let mut lines = Lines::new(stdout, MCP.longest_message);
    let mut noise = 0;
    while let Some(line) = lines.next().await {
        let Line::Whole(line) = line else { return Some(NO_SERVER) };
        let messages = match Message::parse(line.clone()) {
            Some(message) => vec![message],
            None => parse_batch(&line).unwrap_or_default(),
        };
        if messages.is_empty() {
            noise += 1;
            if noise > MOST_NOISE {
                return Some(NO_SERVER);
            }
            // A program that writes only noise must not keep the others from running.
            tokio::task::yield_now().await;
            continue;
        }
        noise = 0;
        for message in messages {
            let size = message.raw().len();
            // Once nobody listens, the output is read and dropped, so that the program can end.
            shared.from.push(message, size).await;
        }
        tokio::task::consume_budget().await;
    }
    None
}

async fn read_errors(stderr: ChildStderr, name: String, last_line: Rc<RefCell<String>>) {
    let mut lines = Lines::new(stderr, LONGEST_WORDS);
    while let Some(line) = lines.next().await {
        let (Line::Whole(line) | Line::Long(line)) = line;
        let words = String::from_utf8_lossy(&line);
        let words = words.trim();
        if !words.is_empty() {
            log_long(Priority::Info, &format!("{name}: {words}"), LONGEST_WORDS);
            last_line.replace(words.chars().take(LAST_WORDS).collect());
        }
        tokio::task::consume_budget().await;
    }
}
