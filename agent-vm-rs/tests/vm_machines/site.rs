//! What tests of real machines share: a repository, its machines, and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::world::World;

/// Longest time to wait for one thing of an emulated machine.
pub const TIMEOUT: Duration = Duration::from_secs(240);

/// A repository with a hermetic home and state directory; its machines are destroyed with it.
pub struct Site {
    root: tempfile::TempDir,
    world: Option<World>,
}

/// A site, unless this host cannot run machines: then the reason is told and counted.
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

/// Tells the runner why this test shows nothing here.
pub fn skip(why: &str) {
    println!("AGENT_VM_SKIP: {why}");
}

fn on_path(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(program).is_file())
}

impl Site {
    /// Has the commands under test run in a world instead of on this host's network.
    pub fn within(mut self, world: World) -> Self {
        self.world = Some(world);
        self
    }

    /// The repository.
    pub fn repo(&self) -> PathBuf {
        self.root.path().join("app")
    }

    /// Directory of a machine.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.root.path().join("state").join(name)
    }

    /// A file of the repository, committed.
    pub fn commit(&self, path: &str, contents: &str) {
        fs::write(self.repo().join(path), contents).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", path]);
    }

    /// Git in the repository.
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

    /// The command under test: the installed one where the runner names it.
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
            // Built guests are shared by all tests.
            .env("XDG_CACHE_HOME", cache)
            .env("AGENT_VM_STATE_DIR", self.root.path().join("state"))
            .env_remove("AGENT_VM_GUEST")
            .stdin(Stdio::null());
        command
    }

    /// Runs it and gives what came out.
    pub fn run(&self, args: &[&str]) -> Done {
        Done::from(self.agent_vm(args).output().unwrap(), args)
    }

    /// The command that creates a small machine, with these arguments.
    pub fn creates(&self, args: &[&str]) -> Command {
        self.agent_vm(&[&["create", "--memory", "1024", "--cores", "2", "--disk", "1024"], args].concat())
    }

    /// Runs it.
    pub fn create_with(&self, args: &[&str]) -> Done {
        Done::from(self.creates(args).output().unwrap(), &[&["create"], args].concat()).ok()
    }

    /// Creates the machine of a branch, small, and gives its name.
    pub fn create(&self, branch: &str) -> String {
        self.create_with(&["--branch", branch, "--json"]).json()["name"].as_str().unwrap().to_owned()
    }

    /// Starts a machine, with the patience that emulation has unless it is told otherwise.
    pub fn start(&self, branch: &str) -> Done {
        self.run(&["start", branch]).ok()
    }

    /// `status --json`.
    pub fn status(&self, branch: &str) -> serde_json::Value {
        self.run(&["status", branch, "--json"]).ok().json()
    }

    /// What a client that connects by itself has to be given: arguments of those in checks/clients.
    pub fn keys(&self, name: &str) -> [String; 4] {
        let file = |name: &str, file: &str| self.machine(name).join("tls").join(file).display().to_string();
        ["--ca".to_owned(), file(name, "ca.pem"), "--token-file".to_owned(), file(name, "token")]
    }

    /// Runs a command in a machine.
    pub fn exec(&self, branch: &str, command: &[&str]) -> Done {
        let args: Vec<_> = ["exec", branch, "--"].iter().chain(command).copied().collect();
        self.run(&args)
    }

    /// Processes that belong to a machine.
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

    /// Port of a machine's MCP on this host.
    pub fn port(&self, name: &str) -> u16 {
        self.ports(name, "port")
    }

    /// Port of a machine's ssh on this host.
    pub fn ssh_port(&self, name: &str) -> u16 {
        self.ports(name, "ssh_port")
    }

    fn ports(&self, name: &str, which: &str) -> u16 {
        let text = fs::read_to_string(self.machine(name).join("run/ports.json")).unwrap();
        let ports: serde_json::Value = serde_json::from_str(&text).unwrap();
        ports[which].as_u64().unwrap().try_into().unwrap()
    }

    /// Pid of a machine's QEMU.
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

/// Pid of this process.
pub fn own_pid() -> i32 {
    std::process::id().try_into().unwrap()
}

/// The pid that a pid file names.
pub fn pid_in(path: &Path) -> i32 {
    fs::read_to_string(path).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends a signal.
pub fn kill(pid: i32, signal: &str) {
    // A failing status: it may have ended by itself.
    Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// Waits until something is so.
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !so() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a child when the test does.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a command came to.
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
    /// From an output.
    pub fn from(output: Output, args: &[&str]) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            args: args.join(" "),
        }
    }

    /// It must have succeeded.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// It must have ended with this code.
    pub fn exits(self, code: i32) -> Self {
        let Self { stdout, stderr, args, .. } = &self;
        assert_eq!(self.code, Some(code), "agent-vm {args}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    /// It must say this, on either stream.
    pub fn says(self, text: &str) -> Self {
        let Self { stdout, stderr, args, .. } = &self;
        assert!(
            stdout.contains(text) || stderr.contains(text),
            "agent-vm {args} does not say {text:?}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self
    }

    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}
