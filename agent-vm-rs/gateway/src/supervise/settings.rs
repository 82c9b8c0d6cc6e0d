//! Times and limits.

use std::path::PathBuf;
use std::time::Duration;

/// Times and limits of all servers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory the servers run in.
    pub workspace: PathBuf,
    /// Times before a restart, growing with each successive failure.
    pub pauses: Vec<Duration>,
    /// Time of running after which the pauses start over.
    pub steady: Duration,
    /// Minimal time between starts. A request for a server that has ended starts it at once, but not sooner.
    pub spacing: Duration,
    /// Time after which a server that has not answered is ended. On a busy host with an emulated processor it takes minutes;
    /// requests get an error meanwhile.
    pub deadline: Duration,
    /// Time for the answer to `ping`; longer while the server works.
    pub ping: Duration,
    /// Time for the answer to `server/discover`.
    pub discovery: Duration,
    /// Time for a server's own answer to `initialize`.
    pub grace: Duration,
    /// Time that a request waits for a server to start: a client's process needs half a minute in an emulated machine on a busy
    /// host, and many clients give up after a minute.
    pub patience: Duration,
    /// Time until the default server gets another spare process.
    pub refill: Duration,
    /// Time without a request or stream after which a session ends.
    pub idle: Duration,
    /// Time after which an unused session gives way to a new one.
    pub gives_way: Duration,
    /// How often unused sessions are looked for.
    pub sweep: Duration,
    /// Time in which a client must answer what a call asks it.
    pub answer_within: Duration,
    /// Maximal number of processes of a server.
    pub most_processes: usize,
}

impl Settings {
    /// Returns the usual times and limits.
    pub fn new(workspace: PathBuf) -> Settings {
        Settings {
            workspace,
            pauses: [1, 2, 4, 8, 16, 32, 60].map(Duration::from_secs).to_vec(),
            steady: Duration::from_secs(60),
            spacing: Duration::from_secs(5),
            deadline: Duration::from_secs(600),
            ping: Duration::from_secs(60),
            discovery: Duration::from_secs(15),
            grace: Duration::from_secs(1),
            patience: Duration::from_secs(45),
            refill: Duration::from_secs(1),
            idle: Duration::from_secs(3600),
            gives_way: Duration::from_secs(10),
            sweep: Duration::from_secs(15),
            answer_within: Duration::from_secs(600),
            most_processes: 16,
        }
    }

    /// Returns the time before a restart after a number of successive failures.
    pub fn pause(&self, failures: usize) -> Duration {
        let last = self.pauses.len().saturating_sub(1);
        self.pauses.get(failures.saturating_sub(1).min(last)).copied().unwrap_or_default()
    }
}
