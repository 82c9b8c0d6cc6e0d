use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::*;
use crate::host::interrupt::Deadline;
use crate::machine::settings::tests::sample;
use crate::machine::state_dir::StateDir;

/// A process that serves the workspace as virtiofsd does, in a child: it writes a file for each line that it reads.
const DAEMON: &str = "env --ignore-signal=XFSZ -- sh -c \
    'while read -r _; do if printf 1234 2>/dev/null >>file; then echo written; else echo failed; fi; done'; true";

#[test]
fn writes_fail_while_the_workspace_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(&StateDir::locate(Some(dir.path())).unwrap(), "app-main".parse().unwrap());
    let (run, workspace) = (machine.run(), machine.workspace());
    std::fs::create_dir_all(run.path()).unwrap();
    std::fs::create_dir_all(&workspace).unwrap();
    let mut settings = sample();
    settings.limits = Limits { workspace_size: Some(16), keep_free: Some(0), ..Limits::default() };
    machine.write_settings(&settings).unwrap();
    let mut daemon = Command::new("sh");
    daemon.args(["-c", DAEMON]).current_dir(&workspace).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut daemon = daemon.spawn().unwrap();
    ProcessId::of(i32::try_from(daemon.id()).unwrap()).unwrap().write(&run.file(MachinePath::VirtiofsdPid)).unwrap();
    let (mut asks, mut answers) = (daemon.stdin.take().unwrap(), BufReader::new(daemon.stdout.take().unwrap()));
    let mut write = || {
        asks.write_all(b"x\n").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer
    };
    // Its child has started once it answers.
    assert_eq!(write(), "written\n");
    let mut state = State::default();
    let mut wait_for = |step: Step| {
        let end = Deadline::after(Duration::from_secs(60));
        end.poll("the verdict", Duration::from_millis(20), || {
            tick(&machine, &mut state)?;
            Ok((read(&run).step == step).then_some(()))
        })
        .unwrap();
    };
    wait_for(Step::Open);
    assert_eq!(write(), "written\n");
    // So large that other programs, which free space meanwhile, do not hide it.
    let large = workspace.join("large");
    std::fs::write(&large, vec![1; 64 << 20]).unwrap();
    wait_for(Step::WritesFail);
    assert_eq!(write(), "failed\n");
    std::fs::remove_file(&large).unwrap();
    wait_for(Step::Open);
    assert_eq!(write(), "written\n");
    // A process that takes over finds the verdict of the last one, and a new limit applies at once.
    std::fs::write(&large, vec![1; 64 << 20]).unwrap();
    wait_for(Step::WritesFail);
    settings.limits.workspace_size = Some(256);
    machine.write_settings(&settings).unwrap();
    let mut next = State::default();
    tick(&machine, &mut next).unwrap();
    assert_eq!((read(&run), write().as_str()), (Verdict::default(), "written\n"));
    daemon.kill().unwrap();
    drop(asks);
    daemon.wait().unwrap();
}

/// A stand-in for QEMU's control socket, in a run state. It remembers the commands.
struct Qemu {
    heard: Arc<Mutex<Vec<String>>>,
    state: Arc<Mutex<&'static str>>,
}

impl Qemu {
    fn of(run: &RunDir, state: &'static str) -> Self {
        std::fs::create_dir_all(run.file(MachinePath::Qemu)).unwrap();
        let socket = UnixListener::bind(run.file(MachinePath::QmpSocket)).unwrap();
        let (heard, state) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(state)));
        let ours = Self { heard: Arc::clone(&heard), state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let (mut to, from) = {
                    let stream = stream.unwrap();
                    (stream.try_clone().unwrap(), stream)
                };
                to.write_all(b"{\"QMP\": {}}\n").unwrap();
                for line in BufReader::new(from).lines().map_while(Result::ok) {
                    let command: serde_json::Value = serde_json::from_str(&line).unwrap();
                    let command = command["execute"].as_str().unwrap().to_owned();
                    heard.lock().unwrap().push(command);
                    let state = *state.lock().unwrap();
                    to.write_all(format!("{{\"return\": {{\"status\": \"{state}\"}}}}\n").as_bytes()).unwrap();
                }
            }
        });
        ours
    }

    /// Returns whether QEMU was to let the guest go on, and forgets all commands.
    fn was_let_go_on(&self) -> bool {
        std::mem::take(&mut *self.heard.lock().unwrap()).iter().any(|command| command == "cont")
    }
}

/// A machine that limits nothing.
fn unlimited(dir: &std::path::Path) -> Machine {
    let machine = Machine::new(&StateDir::locate(Some(dir)).unwrap(), "app-main".parse().unwrap());
    std::fs::create_dir_all(machine.run().path()).unwrap();
    std::fs::create_dir_all(machine.workspace()).unwrap();
    let mut settings = sample();
    settings.limits = Limits { keep_free: Some(0), ..Limits::default() };
    machine.write_settings(&settings).unwrap();
    machine
}

/// A process that is killed between the two would leave a machine that nothing lets go on.
#[test]
fn a_pause_is_forgotten_only_after_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let machine = unlimited(dir.path());
    let run = machine.run();
    let paused = Verdict { step: Step::Paused, reason: Some(Reason::KeepFree), taken: 0, limit: 1 };
    write(&run, paused).unwrap();
    // QEMU does not answer, as if it had not been reached.
    assert!(tick(&machine, &mut State::default()).is_err());
    assert_eq!(read(&run), paused);
    let qemu = Qemu::of(&run, "paused");
    tick(&machine, &mut State::default()).unwrap();
    assert!(qemu.was_let_go_on());
    assert_eq!(read(&run), Verdict::default());
}

#[test]
fn a_guest_that_qemu_paused_because_the_disk_was_full_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let machine = unlimited(dir.path());
    let qemu = Qemu::of(&machine.run(), "running");
    let mut state = State::default();
    tick(&machine, &mut state).unwrap();
    assert!(!qemu.was_let_go_on());
    *qemu.state.lock().unwrap() = qmp::FULL_DISK;
    tick(&machine, &mut state).unwrap();
    assert!(!qemu.was_let_go_on(), "QEMU is not asked in every tick");
    state.asked = Instant::now().checked_sub(ASK);
    tick(&machine, &mut state).unwrap();
    assert!(qemu.was_let_go_on());
    // Not before there is space.
    let full = Seen { free: ROOM - 1, ..Seen::default() };
    let mut next = State::default();
    next.end_pause_of_qemu(&machine.run(), Verdict::default(), &full);
    assert!(!qemu.was_let_go_on());
    next.end_pause_of_qemu(&machine.run(), Verdict::default(), &Seen { free: ROOM, ..full });
    assert!(qemu.was_let_go_on());
}

#[test]
fn writes_fail_also_if_that_cannot_be_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let machine = unlimited(dir.path());
    let run = machine.run();
    let mut settings = sample();
    settings.limits = Limits { keep_free: Some(u32::MAX >> 6), ..Limits::default() };
    machine.write_settings(&settings).unwrap();
    let mut daemon = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = ProcessId::of(i32::try_from(daemon.id()).unwrap()).unwrap();
    id.write(&run.file(MachinePath::VirtiofsdPid)).unwrap();
    // As on a full disk.
    let file = run.file(MachinePath::WorkspaceGuard);
    std::fs::create_dir(&file).unwrap();
    let mut state = State::default();
    assert!(tick(&machine, &mut state).is_err());
    assert_eq!(state.set, Some((vec![id], Some(0))));
    // It is written as soon as there is space.
    std::fs::remove_dir(&file).unwrap();
    tick(&machine, &mut state).unwrap();
    assert_eq!(read(&run).step, Step::WritesFail);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
