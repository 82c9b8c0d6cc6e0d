//! virtiofsd serves the guest, which may have taken it over: no process that virtiofsd starts outlives the machine.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Site, kill, namespaces, wait_until};

/// The read end of a fifo that a process keeps open for as long as it lives.
struct Life(File);

impl Life {
    fn of(site: &Site, fifo: &str) -> Self {
        assert!(site.command("mkfifo").arg(site.path(fifo)).status().unwrap().success());
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        Self(File::options().read(true).custom_flags(flags).open(site.path(fifo)).unwrap())
    }

    fn lasts(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(0) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            other => panic!("{other:?}"),
        }
    }
}

/// Creates a machine whose virtiofsd leaves a process behind: in a session of its own, without a parent, and without
/// the marker in its environment.
fn served(site: &Site) -> Life {
    install(site, STAYS);
    install_ssh(site);
    for package in ["package.json", "from-nix.json"] {
        site.write(package, site.read(package).replace("\"share\":\"9p\"", "\"share\":\"virtiofs\""));
    }
    let life = Life::of(site, "life");
    // Root's machines run virtiofsd as another account.
    for (path, mode) in [("", 0o711), ("life", 0o666)] {
        fs::set_permissions(site.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let hidden = format!("sleep 1000 3<>'{}' &", site.path("life").display());
    site.stand_in(
        "virtiofsd",
        &format!(
            "[ \"$1\" != --version ] || {{ echo 'virtiofsd 1.13.0'; exit; }}\n\
             env -i PATH=\"$PATH\" setsid --fork sh -c \"{hidden}\"\n\
             : >virtiofsd.sock\n\
             exec sleep 1000"
        ),
    );
    create(site, "main");
    life
}

#[test]
fn leftover_processes_end_with_the_machine() {
    if namespaces(&["--pid", "--fork"]).is_none() {
        return;
    }
    for end in [["stop"].as_slice(), &["destroy", "--yes"]] {
        let site = Site::new();
        let mut life = served(&site);
        let inside = GuestServices::of(&site, "app-main");
        site.run(&["start"]).ok().does_not_say("9p");
        wait_until("the hidden process", || life.lasts());
        site.run(end).ok();
        assert!(!life.lasts(), "the hidden process outlives agent-vm {end:?}");
        site.assert_nothing_left();
        drop(inside);
    }
}

/// It is started by its real path, because its confinement can hide the directory that the link leads to.
#[test]
fn virtiofsd_may_be_a_link() {
    if namespaces(&["--pid", "--fork"]).is_none() {
        return;
    }
    let site = Site::new();
    let _life = served(&site);
    site.stand_in(
        "virtiofsd",
        "[ \"$1\" != --version ] || { echo 'virtiofsd 1.13.0'; exit; }\necho \"$0\" >started\n: >virtiofsd.sock\nexec sleep 1000",
    );
    fs::create_dir(site.path("elsewhere")).unwrap();
    fs::rename(site.path("bin/virtiofsd"), site.path("elsewhere/virtiofsd")).unwrap();
    std::os::unix::fs::symlink(site.path("elsewhere/virtiofsd"), site.path("bin/virtiofsd")).unwrap();
    let _inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok().does_not_say("9p");
    let started = site.read("data/agent-vms/app-main/run/qemu/started");
    assert!(started.ends_with("/elsewhere/virtiofsd\n"), "{started}");
    site.run(&["destroy", "--yes"]).ok();
}

/// The hidden process also ends when the process that holds virtiofsd's namespace is killed.
#[test]
fn leftover_processes_end_with_their_namespace() {
    if namespaces(&["--pid", "--fork"]).is_none() {
        return;
    }
    let site = Site::new();
    let mut life = served(&site);
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    wait_until("the hidden process", || life.lasts());
    let holders: Vec<_> = site.processes().into_iter().filter(|(_, words)| words.starts_with("unshare ")).collect();
    let [(holder, _)] = holders[..] else { panic!("{holders:?}") };
    kill(holder, Signal::KILL);
    wait_until("the hidden process to end", || !life.lasts());
}
