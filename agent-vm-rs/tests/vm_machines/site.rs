//! Helpers for tests of real machines: a repository, its machines, and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::world::World;

/// Longest time to wait for one condition of an emulated machine.
pub const TIMEOUT: Duration = Duration::from_secs(240);

/// A repository with a hermetic home and state directory; dropping it kills the processes of its machines.
pub struct Site {
    root: tempfile::TempDir,
    world: Option<World>,
}

/// Returns a site; None, with the test reported as skipped, if this host cannot run machines.
pub fn site() -> Option<Site> {
    for program in ["qemu-system-x86_64", "nix", "mmdebstrap"] {
        if !on_path(program) {
            skip(&format!("{program} is not installed"));
            return None;
        }
    }
    let site = Site { root: tempfile::tempdir().unwrap(), world: None };
    for dir in ["home", "app"] {
        fs::create_dir(site.root.path().join(dir)).unwrap();
    }
    site.git(&["init", "--quiet", "--initial-branch=main"]);
    site.git(&["config", "user.name", "Test"]);
    site.git(&["config", "user.email", "test@example.invalid"]);
    site.commit("README", "hello\n");
    Some(site)
}

/// Reports this test as skipped to the test runner.
pub fn skip(why: &str) {
    println!("AGENT_VM_SKIP: {why}");
}

fn on_path(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).is_file())
}

impl Site {
    /// Runs the commands under test in a world instead of on this host's network.
    pub fn within(mut self, world: World) -> Self {
        self.world = Some(world);
        self
    }

    /// Returns the repository's path.
    pub fn repo(&self) -> PathBuf {
        self.root.path().join("app")
    }

    /// Returns a machine's directory.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.root.path().join("state").join(name)
    }

    /// Writes and commits a file in the repository.
    pub fn commit(&self, path: &str, contents: &str) {
        fs::write(self.repo().join(path), contents).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", path]);
    }

    /// Runs git in the repository and returns its output.
    pub fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.repo())
            .env("HOME", self.root.path().join("home"))
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns an agent-vm command: the program that AGENT_VM_BIN names, if set.
    pub fn agent_vm(&self, args: &[&str]) -> Command {
        let program = std::env::var_os("AGENT_VM_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_agent-vm").into());
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
        let mut command = match &self.world {
            Some(world) => world.start(&program, &self.repo()),
            None => Command::new(program),
        };
        command
            .args(args)
            .current_dir(self.repo())
            .env("HOME", self.root.path().join("home"))
            // All tests share the built guests.
            .env("XDG_CACHE_HOME", cache)
            .env("AGENT_VM_STATE_DIR", self.root.path().join("state"))
            .env_remove("AGENT_VM_GUEST")
            .stdin(Stdio::null());
        command
    }

    /// Runs agent-vm and returns the result.
    pub fn run(&self, args: &[&str]) -> Done {
        Done::from(self.agent_vm(args).output().unwrap(), args)
    }

    /// Returns the command that creates a small machine, with these arguments.
    pub fn creates(&self, args: &[&str]) -> Command {
        self.agent_vm(&[&["create", "--memory", "1024", "--cores", "2", "--disk", "1024"], args].concat())
    }

    /// Creates a small machine with these arguments.
    pub fn create_with(&self, args: &[&str]) -> Done {
        Done::from(self.creates(args).output().unwrap(), &[&["create"], args].concat()).ok()
    }

    /// Creates a small machine for a branch and returns its name.
    pub fn create(&self, branch: &str) -> String {
        self.create_with(&["--branch", branch, "--json"]).json()["name"].as_str().unwrap().to_owned()
    }

    /// Starts a machine, with the default time limit.
    pub fn start(&self, branch: &str) -> Done {
        self.run(&["start", branch]).ok()
    }

    /// Returns the output of `status --json`.
    pub fn status(&self, branch: &str) -> serde_json::Value {
        self.run(&["status", branch, "--json"]).ok().json()
    }

    /// Returns the arguments that give the clients in checks/clients a machine's certificate authority and token.
    pub fn keys(&self, name: &str) -> [String; 4] {
        let file = |name: &str, file: &str| self.machine(name).join("tls").join(file).display().to_string();
        ["--ca".to_owned(), file(name, "ca.pem"), "--token-file".to_owned(), file(name, "token")]
    }

    /// Runs a command in a machine.
    pub fn exec(&self, branch: &str, command: &[&str]) -> Done {
        let args: Vec<_> = ["exec", branch, "--"].iter().chain(command).copied().collect();
        self.run(&args)
    }

    /// Returns the processes of a machine.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let marker = format!("AGENT_VM_MACHINE={}", self.machine(name).display());
        let all = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        all.filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
        })
        .collect()
    }

    /// Returns the port of a machine's MCP on this host.
    pub fn port(&self, name: &str) -> u16 {
        self.ports(name, "port")
    }

    /// Returns the port of a machine's ssh on this host.
    pub fn ssh_port(&self, name: &str) -> u16 {
        self.ports(name, "ssh_port")
    }

    fn ports(&self, name: &str, which: &str) -> u16 {
        let text = fs::read_to_string(self.machine(name).join("run/ports.json")).unwrap();
        let ports: serde_json::Value = serde_json::from_str(&text).unwrap();
        ports[which].as_u64().unwrap().try_into().unwrap()
    }

    /// Returns the pid of a machine's QEMU.
    pub fn qemu(&self, name: &str) -> i32 {
        pid_in(&self.machine(name).join("run/qemu.pid"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let state = self.root.path().join("state");
        for entry in fs::read_dir(state).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')) {
                for pid in self.processes(name) {
                    kill(pid, "KILL");
                }
            }
        }
    }
}

/// Returns the pid of this process.
pub fn own_pid() -> i32 {
    std::process::id().try_into().unwrap()
}

/// Returns the pid in a pid file.
pub fn pid_in(path: &Path) -> i32 {
    fs::read_to_string(path).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends a signal.
pub fn kill(pid: i32, signal: &str) {
    // The status is ignored: the process may have ended already.
    Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// Suspends a process. Its threads stop one after the other, and each needs a processor for that.
pub fn suspend(pid: i32) {
    kill(pid, "STOP");
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    wait_until("a process to be suspended", || state().rsplit_once(") ").unwrap().1.starts_with('T'));
}

/// Waits until a condition holds; panics after the time limit.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !so() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A child process that is killed when the test ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The result of a command.
pub struct Done {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    args: String,
}

impl Done {
    /// Takes the result from an output.
    pub fn from(output: Output, args: &[&str]) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            args: args.join(" "),
        }
    }

    /// Checks that the command succeeded.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Checks the exit code.
    pub fn exits(self, code: i32) -> Self {
        let Self { stdout, stderr, args, .. } = &self;
        assert_eq!(self.code, Some(code), "agent-vm {args}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    /// Checks that stdout or stderr contains a text.
    pub fn says(self, text: &str) -> Self {
        let Self { stdout, stderr, args, .. } = &self;
        assert!(
            stdout.contains(text) || stderr.contains(text),
            "agent-vm {args} does not print {text:?}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self
    }

    /// Parses stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}
