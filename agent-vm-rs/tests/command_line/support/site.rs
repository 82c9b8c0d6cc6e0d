//! A hermetic directory with a home, a state directory, a repository, and its own PATH.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::Done;
use super::processes::{Running, kill, marked_below, wait_until};
use super::programs::{NEEDED, landlock, namespaces, skip, which};

/// A hermetic directory; dropping it kills the processes of its machines.
pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    /// Makes a directory with the repository `app`, which has two commits on `main`. The programs that would make or
    /// run a guest are stand-ins that fail.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes the same below another directory.
    pub fn new_in(dir: &Path) -> Self {
        let site = Self { dir: tempfile::tempdir_in(dir).unwrap() };
        for dir in ["home", "data", "cache", "config", "tmp", "bin", "toolkit", "app", "record"] {
            fs::create_dir(site.path(dir)).unwrap();
        }
        for program in NEEDED {
            let real = which(program).unwrap_or_else(|| panic!("{program} is not installed"));
            symlink(real, site.path("bin").join(program)).unwrap();
        }
        for program in ["nix", "qemu-system-x86_64", "qemu-img", "mke2fs"] {
            site.stand_in(program, &format!("echo 'the stand-in for {program} fails' >&2; exit 99"));
        }
        site.write("toolkit/flake.nix", "{ outputs = _: { }; }\n");
        site.git(&["init", "--quiet", "--initial-branch=main"]);
        site.git(&["config", "user.name", "Test"]);
        site.git(&["config", "user.email", "test@example.invalid"]);
        site.commit("README", "hello\n");
        site.commit("second", "again\n");
        site
    }

    /// Returns the directory's canonical path.
    pub fn root(&self) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap()
    }

    /// Returns a path in the directory.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root().join(relative)
    }

    /// Returns the repository's path.
    pub fn repo(&self) -> PathBuf {
        self.path("app")
    }

    /// Returns the default state directory.
    pub fn state(&self) -> PathBuf {
        self.path("data/agent-vms")
    }

    /// Returns a machine's directory.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }

    /// Returns what destroyed machines left in the state directory: bundles and workspaces.
    pub fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state().join(".bundles")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Returns the prefix of the branches that the printed command fetches from what a destroyed machine left.
    pub fn rescued(&self) -> String {
        let kept = self.kept();
        let [kept] = kept.as_slice() else { panic!("{kept:?}") };
        format!("rescued/{}", kept.file_stem().unwrap().display())
    }

    /// Returns the names in the state directory, without dot files.
    pub fn names(&self) -> Vec<String> {
        self.state_entries().into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    /// Returns all names in the state directory, sorted.
    pub fn state_entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Returns a machine's settings.
    pub fn settings(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(self.machine(name).join("config.json")).unwrap()).unwrap()
    }

    /// Changes one setting in a machine's `config.json`.
    pub fn set(&self, name: &str, key: &str, value: serde_json::Value) {
        let mut settings = self.settings(name);
        settings[key] = value;
        fs::write(self.machine(name).join("config.json"), settings.to_string()).unwrap();
    }

    /// Writes a file.
    pub fn write(&self, relative: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
        fs::write(self.path(relative), contents).unwrap();
    }

    /// Reads a file; returns an empty text if that fails.
    pub fn read(&self, relative: impl AsRef<Path>) -> String {
        String::from_utf8_lossy(&fs::read(self.path(relative)).unwrap_or_default()).into_owned()
    }

    /// Puts a shell script on PATH, in place of a program.
    pub fn stand_in(&self, name: &str, script: &str) {
        self.script(Path::new("bin").join(name), script);
    }

    /// Writes a shell script that can be run.
    pub fn script(&self, relative: impl AsRef<Path>, script: &str) {
        let path = self.path(relative);
        // Replaced by a new file: the old one may be a link, or a script that runs.
        drop(fs::remove_file(&path));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Removes a program from PATH.
    pub fn without(&self, program: &str) {
        fs::remove_file(self.path("bin").join(program)).unwrap();
    }

    /// Makes a program run `before` first whenever its arguments contain `word`.
    pub fn intercept(&self, program: &str, word: &str, before: &str) {
        let real = which(program).unwrap();
        let script = format!("case \" $* \" in *' {word} '*)\n{before}\nesac\nexec '{}' \"$@\"", real.display());
        self.stand_in(program, &script);
    }

    /// Puts the real program back on PATH.
    pub fn restore(&self, program: &str) {
        drop(fs::remove_file(self.path("bin").join(program)));
        symlink(which(program).unwrap(), self.path("bin").join(program)).unwrap();
    }

    /// Confines git with `bwrap`, or with `landlocked` alone; returns false, with the test reported as skipped, if this
    /// host cannot.
    pub fn with_sandbox(&self, sandbox: &str) -> bool {
        if sandbox == "bwrap" {
            if which(sandbox).is_none() {
                skip("no bubblewrap to make namespaces with");
                return false;
            }
            self.restore(sandbox);
            return namespaces(&["--mount", "--pid", "--net", "--ipc", "--uts"]).is_some();
        }
        drop(fs::remove_file(self.path("bin/bwrap")));
        landlock()
    }

    /// Returns a command with this directory's environment and nothing else.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.repo())
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("AGENT_VM_TOOLKIT", self.path("toolkit"))
            .env("AGENT_VM_VIRTIOFSD", self.path("bin/virtiofsd"))
            // The stand-in for QEMU listens on no port, so no socket proxy is needed.
            .env("AGENT_VM_SOCKET_PROXYD", self.path("bin/systemd-socket-proxyd"))
            .stdin(Stdio::null());
        command
    }

    /// Returns an agent-vm command.
    pub fn agent_vm(&self, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_agent-vm"));
        command.args(args);
        command
    }

    /// Runs agent-vm in the repository.
    pub fn run(&self, args: &[&str]) -> Done {
        finish(self.agent_vm(args))
    }

    /// Runs agent-vm in another directory.
    pub fn run_in(&self, dir: impl AsRef<Path>, args: &[&str]) -> Done {
        let mut command = self.agent_vm(args);
        command.current_dir(dir);
        finish(command)
    }

    /// Runs agent-vm with environment variables.
    pub fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Done {
        let mut command = self.agent_vm(args);
        command.envs(variables.iter().copied());
        finish(command)
    }

    /// Starts agent-vm with its output in pipes.
    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.agent_vm(args);
        Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Creates the machine of a branch and returns its name.
    #[track_caller]
    pub fn create(&self, branch: &str) -> String {
        let made = self.run(&["create", "--json", "--branch", branch]).ok();
        made.json()["name"].as_str().unwrap().to_owned()
    }

    /// Creates the machine of main with a new commit; returns the workspace and the commit.
    pub fn create_with_work(&self) -> (PathBuf, String) {
        let workspace = self.machine(&self.create("main")).join("workspace");
        let commit = self.commit_in(&workspace, "work", "x");
        (workspace, commit)
    }

    /// Runs git in the repository and returns its output.
    pub fn git(&self, args: &[&str]) -> String {
        self.git_in(self.repo(), args)
    }

    /// Runs git in another directory and returns its output.
    #[track_caller]
    pub fn git_in(&self, dir: impl AsRef<Path>, args: &[&str]) -> String {
        let git = which("git").unwrap();
        let output = self.command(git).args(args).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Writes and commits a file in the repository; returns the commit.
    pub fn commit(&self, path: &str, contents: &str) -> String {
        self.commit_in(self.repo(), path, contents)
    }

    /// Writes and commits a file in a work tree; returns the commit.
    pub fn commit_in(&self, dir: impl AsRef<Path>, path: &str, contents: &str) -> String {
        let dir = dir.as_ref();
        fs::write(dir.join(path), contents).unwrap();
        self.git_in(dir, &["add", "--all"]);
        self.git_in(dir, &["commit", "--quiet", "--message", path]);
        self.git_in(dir, &["rev-parse", "HEAD"])
    }

    /// Returns the processes of this directory's machines, with their command lines.
    pub fn processes(&self) -> Vec<(u32, String)> {
        marked_below(&self.root())
    }

    /// Returns the process ids of this directory's machines.
    pub fn pids(&self) -> Vec<u32> {
        self.processes().into_iter().map(|(pid, _)| pid).collect()
    }

    /// Checks that no process and no half-made machine is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "left running: {left:?}");
        let entries = self.state_entries();
        let half = entries.iter().any(|name| name.starts_with(".new-") || name.starts_with(".gone-"));
        assert!(!half, "left in the state directory: {entries:?}");
    }

    /// Waits until a stand-in has written a file.
    #[track_caller]
    pub fn wait_for(&self, relative: &str) {
        wait_until(relative, || self.path(relative).exists());
    }

    /// Returns every file except the state directory and the cache, by path: mode and contents.
    pub fn outside(&self) -> BTreeMap<PathBuf, String> {
        let own = [self.state(), self.path("cache")];
        tree_but(&self.root(), |path| own.iter().any(|dir| path == dir))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            kill(pid, Signal::KILL);
        }
    }
}

fn finish(mut command: Command) -> Done {
    let shown = format!("{command:?}");
    let shown = shown.split("agent-vm\"").last().unwrap_or_default().to_owned();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Done::new(format!("agent-vm{shown}"), &child.wait_with_output().unwrap())
}

/// Returns every file below a directory, by path: mode and contents.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    tree_but(root, |_| false)
}

fn tree_but(root: &Path, left_out: impl Fn(&Path) -> bool) -> BTreeMap<PathBuf, String> {
    let entries = walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| !left_out(entry.path()));
    let entries = entries.map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.path().symlink_metadata().unwrap();
            let contents = if metadata.is_file() {
                String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned()
            } else if metadata.is_symlink() {
                fs::read_link(entry.path()).unwrap().display().to_string()
            } else {
                String::new()
            };
            (entry.into_path(), format!("{:o} {contents}", metadata.mode()))
        })
        .collect()
}
