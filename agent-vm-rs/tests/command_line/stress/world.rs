//! The machines of a stress test, what is expected of them, and what is not there any more.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::actions::{Action, BRANCHES, Deed};
use crate::stand_ins::{STAYS, install, install_ssh};
use crate::support::{Done, Site, which};

/// A site with machines that start, and the commits that were made in them.
pub struct World {
    site: Site,
    /// MCP's and ssh's port by branch, which never change, so that another test cannot have them.
    ports: BTreeMap<&'static str, [String; 2]>,
    /// Every commit that a guest has made while no command was removing its machine.
    commits: Mutex<Vec<String>>,
    /// How often each command was successful.
    successes: Mutex<BTreeMap<&'static str, usize>>,
}

/// Waits until a process has ended; returns whether it has.
fn ends_within(pid: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Returns a site whose machines start: a stand-in for QEMU answers on their ports.
pub fn site_with_guests() -> Site {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    let python = which("python3").unwrap();
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command_line/stress/guest.py");
    site.script("runner", &format!("exec '{}' -B '{guest}' \"$@\"", python.display()));
    site
}

impl World {
    pub fn new() -> Self {
        let site = site_with_guests();
        let held: Vec<_> = (0..6).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let port = |index: usize| held[index].local_addr().unwrap().port().to_string();
        let ports = BRANCHES.iter().enumerate().map(|(at, branch)| (*branch, [port(2 * at), port(2 * at + 1)]));
        let ports = ports.collect();
        for branch in &BRANCHES[1..] {
            site.git(&["branch", branch]);
        }
        Self { site, ports, commits: Mutex::default(), successes: Mutex::default() }
    }

    /// Runs the actions of a round side by side, and checks what is left of them.
    pub fn run(&self, round: &[Action]) {
        let is_removed = |branch: &str| round.iter().any(|one| one.deed == Deed::Destroy && one.branch == branch);
        std::thread::scope(|scope| {
            for action in round {
                // Whether a commit beside a `destroy` comes before it is not known.
                scope.spawn(move || self.act(action, is_removed(action.branch)));
            }
        });
        self.check(round);
    }

    fn act(&self, action: &Action, is_removed: bool) {
        let Some(line) = action.deed.args(action.branch) else {
            let made = self.commit(action.branch);
            if let Some(made) = made.filter(|_| !is_removed) {
                self.commits.lock().unwrap().push(made);
            }
            return;
        };
        let (verb, mut args): (&'static str, Vec<&str>) = (line[0], line);
        if action.deed == Deed::Create {
            let [mcp, ssh] = &self.ports[action.branch];
            args.extend(["--port", mcp, "--ssh-port", ssh]);
        }
        let command = self.site.spawn(&args);
        if let Some((signal, after)) = action.signal {
            // The moment is random, so that no state of the command is left out.
            std::thread::sleep(Duration::from_millis(after));
            command.signal(signal);
        }
        let done = Done::new(format!("{args:?}"), &command.output());
        let refused =
            done.code == Some(1) && done.stderr.lines().filter(|line| line.starts_with("error:")).count() == 1;
        let ended = action.signal.is_some() && matches!(done.code, None | Some(130));
        assert!(done.code == Some(0) || refused || ended, "{action:?}: {done:?}");
        assert!(!done.stderr.contains("panicked"), "{action:?}: {done:?}");
        if done.code == Some(0) {
            *self.successes.lock().unwrap().entry(verb).or_default() += 1;
        }
    }

    fn git(&self, dir: &Path, args: &[&str]) -> Option<String> {
        let config = ["-c", "safe.directory=*", "-c", "user.name=Guest", "-c", "user.email=guest@example.invalid"];
        let mut git = self.site.command(which("git").unwrap());
        git.arg("-C").arg(dir).args(config).args(args).stderr(std::process::Stdio::null());
        let output = git.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    }

    /// Commits in a workspace as its guest does; None if there is none, or git fails.
    fn commit(&self, branch: &str) -> Option<String> {
        let workspace = self.workspace(branch)?;
        self.git(&workspace, &["commit", "--quiet", "--allow-empty", "--message", "by the guest"])?;
        self.git(&workspace, &["rev-parse", "HEAD"])
    }

    /// Returns the workspace of a branch's machine.
    fn workspace(&self, branch: &str) -> Option<PathBuf> {
        let is_its = |name: &String| {
            let settings = self.site.read(self.site.machine(name).join("config.json"));
            serde_json::from_str(&settings).is_ok_and(|settings: serde_json::Value| settings["branch"] == branch)
        };
        Some(self.site.machine(&self.site.names().into_iter().find(is_its)?).join("workspace"))
    }

    /// Checks that every machine can be used, that nothing runs which no machine has, and that no commit is lost.
    fn check(&self, round: &[Action]) {
        // Any command completes or removes what killed ones left.
        let list = self.site.run(&["list", "--json"]).ok().json();
        let rows = list.as_array().unwrap();
        for row in rows {
            assert_eq!(row["error"], serde_json::Value::Null, "after {round:?}");
        }
        let entries = self.site.state_entries();
        let half = entries.iter().find(|name| [".new-", ".gone-", ".swept-"].iter().any(|part| name.starts_with(part)));
        assert_eq!(half, None, "after {round:?}");
        let stopped = rows.iter().filter(|row| row["state"] == "stopped").map(|row| row["name"].as_str().unwrap());
        let machines: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        let stopped: Vec<_> = stopped.collect();
        for (pid, line) in self.site.processes() {
            let of = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
            let of = of.split('\0').find_map(|word| word.strip_prefix("AGENT_VM_MACHINE=")).map(PathBuf::from);
            let name = of.as_ref().and_then(|dir| dir.file_name()?.to_str());
            let is_leaked = name.is_some_and(|name| !machines.contains(&name) || stopped.contains(&name));
            // A helper ends with QEMU, and that may be now.
            let ends = || ends_within(pid, Duration::from_secs(10));
            assert!(!is_leaked || ends(), "after {round:?}: {pid} of {name:?} is left: {line}");
        }
        self.check_commits(&format!("{round:?}"));
    }

    /// Checks that each commit is in the source repository, in a workspace, or in what a destroyed machine left.
    fn check_commits(&self, after: &str) {
        let kept = self.site.kept();
        let places: Vec<_> = BRANCHES.iter().filter_map(|branch| self.workspace(branch)).collect();
        let restored = self.site.path("restored.git");
        if !restored.exists() {
            let source = self.site.repo();
            self.git(&source, &["clone", "--quiet", "--bare", ".", restored.to_str().unwrap()]).unwrap();
        }
        for (number, bundle) in kept.iter().filter(|path| path.is_file()).enumerate() {
            let into = format!("refs/*:refs/kept-{number}/*");
            self.git(&restored, &["fetch", "--quiet", "--force", bundle.to_str().unwrap(), &into]);
        }
        let dirs = kept.into_iter().filter(|path| path.is_dir());
        let all: Vec<_> = places.into_iter().chain([self.site.repo(), restored.clone()]).chain(dirs).collect();
        for commit in self.commits.lock().unwrap().iter() {
            let holds = |dir: &PathBuf| {
                self.git(dir, &["for-each-ref", "--count=1", "--contains", commit]).is_some_and(|refs| !refs.is_empty())
            };
            assert!(all.iter().any(holds), "after {after}: the commit {commit} is lost");
        }
    }

    /// Starts, stops and removes every machine, however it was left, and checks that nothing remains of them.
    pub fn finish(&self) {
        for branch in BRANCHES {
            if self.workspace(branch).is_none() {
                continue;
            }
            self.site.run(&["start", branch]).ok();
            assert_eq!(self.site.run(&["status", "--json", branch]).ok().json()["state"], "running");
            self.site.run(&["stop", branch]).ok();
            self.site.run(&["destroy", "--yes", branch]).ok();
        }
        self.site.assert_nothing_left();
        assert!(self.site.names().is_empty());
        self.check_commits("the end");
    }

    /// Returns the site.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Adds the number of commits that were made, and how often each command was successful.
    pub fn count(&self, totals: &mut BTreeMap<&'static str, usize>) {
        let commits = self.commits.lock().unwrap().len();
        for (what, count) in self.successes.lock().unwrap().iter().chain([(&"(commits)", &commits)]) {
            *totals.entry(what).or_default() += count;
        }
    }
}
