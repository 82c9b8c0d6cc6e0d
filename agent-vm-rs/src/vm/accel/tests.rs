//! Tests the KVM probe with stand-ins for QEMU and for the device.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::confine::{Account, Sandbox};
use crate::guest::manifest::Manifest;
use crate::guest::manifest::tests::SAMPLE;

/// Under working KVM the kernel resets the machine, and QEMU exits with success.
const WORKS: &str = "exit 0";
const PRINTS_VERSION: &str = "case $* in *--version*) exit 0;; esac\n";

struct Site {
    dir: tempfile::TempDir,
    guest: Guest,
    confinement: Confinement,
}

impl Site {
    /// Makes a guest package as Nix does: its kernel is a link into another package.
    fn new(qemu: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for place in ["store/linux", "store/guest", "store/qemu/bin"] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        fs::write(root.join("store/linux/bzImage"), "").unwrap();
        symlink(root.join("store/linux/bzImage"), root.join("store/guest/kernel")).unwrap();
        fs::write(root.join("device"), "").unwrap();
        let mut manifest = Manifest::parse(SAMPLE).unwrap();
        manifest.kernel = "kernel".into();
        manifest.qemu.binary = root.join("store/qemu/bin/qemu").display().to_string();
        let guest = Guest { package: root.join("store/guest"), manifest };
        let site = Self { dir, guest, confinement: Confinement::default() };
        site.qemu(qemu);
        site
    }

    /// Replaces QEMU, as an upgrade does. The new one records its calls.
    fn qemu(&self, script: &str) {
        let new = self.dir.path().join("new");
        let calls = self.dir.path().join("calls");
        fs::write(&new, format!("#!/bin/sh\necho \"$*\" >>'{}' 2>/dev/null\n{script}\n", calls.display())).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, &self.guest.manifest.qemu.binary).unwrap();
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.dir.path().join("calls")).map_or(0, |text| text.lines().count())
    }

    fn probe<'a>(&'a self, device: &'a Path) -> Probe<'a> {
        // Longer than a busy host needs to run a short script.
        let timeout = Duration::from_secs(5);
        Probe { device, timeout, guest: &self.guest, confinement: &self.confinement }
    }

    fn choose(&self) -> Choice {
        self.probe(&self.dir.path().join("device")).choose(&self.dir.path().join("cache")).unwrap()
    }
}

#[test]
fn the_probe_matches_its_snapshot() {
    let mut site = Site::new(WORKS);
    site.guest.manifest.qemu.binary = "sh".into();
    let account = Some(Account { uid: 998, gid: 997, groups: vec![107], stage: None });
    let proxyd = Some("/lib/systemd/systemd-socket-proxyd".into());
    site.confinement =
        Confinement { sandbox: Some(Sandbox { account, proxyd }), landlock: Some("/usr/bin/agent-vm".into()) };
    let kernel = Path::new("/cache/guest/vmlinux");
    let trial = site
        .probe(Path::new(KVM))
        .confined(&boot(kernel, Path::new("sh"), &site.guest.manifest.qemu).unwrap(), kernel)
        .unwrap();
    insta::assert_snapshot!(format!("{trial:#?}"));
}

#[test]
fn a_verdict_is_kept_until_qemu_changes() {
    let site = Site::new(&format!("{PRINTS_VERSION}echo 'qemu: failed to initialize kvm: No such device' >&2; exit 1"));
    let refused = Choice::NoKvm("QEMU cannot use it: qemu: failed to initialize kvm: No such device".into());
    assert_eq!((site.choose(), site.calls()), (refused.clone(), 2));
    assert_eq!((site.choose(), site.calls()), (refused, 2));
    site.qemu(WORKS);
    assert_eq!((site.choose(), site.calls()), (Choice::Kvm, 3));
    assert_eq!((site.choose(), site.calls()), (Choice::Kvm, 3));
    let device = site.dir.path().join("device");
    fs::set_permissions(device, fs::Permissions::from_mode(0o606)).unwrap();
    assert_eq!((site.choose(), site.calls()), (Choice::Kvm, 4));
    // A cache of an earlier version is ignored.
    let file = site.dir.path().join("cache/kvm-probe.json");
    let text = fs::read_to_string(&file).unwrap().replace("\"version\":4", "\"version\":3");
    fs::write(&file, text).unwrap();
    assert_eq!((site.choose(), site.calls()), (Choice::Kvm, 5));
    fs::write(&file, r#"{"boot":"x","kernel":"y","reason":"QEMU cannot use it"}"#).unwrap();
    assert_eq!((site.choose(), site.calls()), (Choice::Kvm, 6));
}

#[test]
fn a_failure_of_the_probe_is_reported_and_forgotten() {
    for (script, why) in [
        ("echo \"bwrap: Can't mount on symlink destination\" >&2; exit 1", "does not start in its confinement (bwrap:"),
        ("exit 127", "does not start in its confinement (exit status: 127)"),
        ("kill -SYS $$", "does not start in its confinement (signal: 31"),
        (
            &*format!("{PRINTS_VERSION}echo \"$0: could not load kernel '/kvm/kernel'\" | sed 's-/kvm--' >&2; exit 1"),
            "ended before it used KVM",
        ),
    ] {
        let site = Site::new(script);
        let choice = site.choose();
        assert!(matches!(&choice, Choice::Unknown(message) if message.contains(why)), "{script}: {choice:?}");
        assert!(
            choice
                .notice(&"app-main".parse().unwrap())
                .is_some_and(|notice| notice.starts_with("warning: the KVM probe itself failed: "))
        );
        assert_eq!(choice.accel(), Accel::Tcg);
        let calls = site.calls();
        site.choose();
        assert_eq!(site.calls(), 2 * calls, "{script}: a failure was kept");
        site.qemu(WORKS);
        assert_eq!(site.choose(), Choice::Kvm);
    }
}

#[test]
fn a_kernel_that_hangs_is_a_verdict() {
    let site = Site::new(&format!("{PRINTS_VERSION}exec sleep 1000"));
    let mut probe = site.probe(Path::new("/dev/null"));
    probe.timeout = Duration::from_secs(1);
    let cache = site.dir.path().join("cache");
    let choice = probe.choose(&cache).unwrap();
    // On a very busy host the control also takes too long.
    match choice {
        Choice::NoKvm(why) => {
            assert!(why.contains("a kernel hangs with KVM"), "{why}");
            assert!(cache.join("kvm-probe.json").exists());
        }
        Choice::Unknown(_) => assert!(!cache.join("kvm-probe.json").exists()),
        Choice::Kvm => unreachable!("nothing ended"),
    }
}

#[test]
fn a_missing_qemu_or_kernel_is_an_error() {
    let site = Site::new(WORKS);
    fs::remove_file(site.dir.path().join("store/linux/bzImage")).unwrap();
    let cache = site.dir.path().join("cache");
    let error = site.probe(Path::new("/dev/null")).choose(&cache).unwrap_err();
    assert!(format!("{error:#}").contains("store/guest/kernel"), "{error:#}");
    let mut site = Site::new(WORKS);
    site.guest.manifest.qemu.binary = "no-such-qemu".into();
    let error = site.probe(Path::new("/dev/null")).choose(&cache).unwrap_err();
    assert!(error.to_string().contains("no-such-qemu is not on PATH"), "{error:#}");
    let choice = site.probe(Path::new("/no/kvm")).choose(&cache).unwrap();
    assert_eq!(choice, Choice::NoKvm("/no/kvm does not exist".into()));
}

/// The kernel is where a Nix store is in the sandbox: already bound, read-only, and behind links.
#[test]
fn a_kernel_behind_a_link_in_the_system_is_tried() {
    let mut site = Site::new("while [ \"$1\" != -kernel ]; do shift; done; test -r \"$2\"");
    site.confinement.sandbox = Some(Sandbox { account: None, proxyd: None });
    // An absolute link, as in Nix packages.
    let is_like_nix = |path: &Path| {
        path.read_link().is_ok_and(|to| to.is_absolute()) && path.canonicalize().is_ok_and(|real| real.is_file())
    };
    let programs = fs::read_dir("/usr/bin").into_iter().flatten().flatten().map(|entry| entry.path());
    let Some(link) = programs.into_iter().find(|path| is_like_nix(path)) else {
        crate::term::skip_test("/usr/bin has no absolute link");
        return;
    };
    // Controls: namespaces work, and bubblewrap refuses the link itself.
    let bwrap = |path: &Path| {
        let bwrap = Invocation::new("bwrap").args(["--unshare-user", "--dev", "/dev"]);
        let bwrap = ["/usr", "/bin", "/lib", "/lib64", "/nix/store"]
            .into_iter()
            .fold(bwrap, |bwrap, place| bwrap.args(["--ro-bind-try", place, place]));
        bwrap.arg("--ro-bind").arg(path).arg(path).args(["--", "true"]).checked()
    };
    if bwrap(Path::new("/usr")).is_err() {
        crate::term::skip_test("this host allows no namespaces");
        return;
    }
    assert!(bwrap(&link).is_err(), "bubblewrap binds {} where it is", link.display());
    site.guest.package = "/usr/bin".into();
    site.guest.manifest.kernel = link.file_name().unwrap().into();
    assert_eq!(site.choose(), Choice::Kvm);
}

#[test]
fn the_notice_has_at_most_two_lines_of_80_columns() {
    let lines = |why: &str| {
        let notice = Choice::NoKvm(why.to_owned()).notice(&"app-main".parse().unwrap()).unwrap();
        assert!(notice.ends_with("for a remedy: agent-vm doctor app-main"), "{notice}");
        crate::term::terminal::wrap(&notice, Some(80)).lines().count()
    };
    assert_eq!(lines("/dev/kvm does not exist"), 2);
    assert_eq!(lines("the account 1892869073 may not open /dev/kvm, root:root 0600"), 2);
    assert_eq!(lines(&"a long message of QEMU ".repeat(20)), 2);
}

#[test]
fn a_user_without_access_to_the_device_gets_a_hint() {
    let mut site = Site::new(WORKS);
    let device = site.dir.path().join("device");
    fs::set_permissions(&device, fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let account = Some(Account { uid: 65534, gid: 65534, groups: Vec::new(), stage: None });
        site.confinement.sandbox = Some(Sandbox { account, proxyd: None });
    }
    let Choice::NoKvm(why) = site.choose() else { panic!("the device was opened") };
    let user = Invocation::new("id").args(["-un", "--", if is_root { "65534" } else { "" }]);
    let user = if is_root { user } else { Invocation::new("id").arg("-un") }.read().unwrap();
    assert!(why.starts_with(&format!("{user} may not open {}", device.display())), "{why}");
    assert!(why.ends_with(" 0400"), "{why}");
    let remedy = |site: &Site| site.probe(&device).gate().remedy(&user, "kvm", &fs::metadata(&device).unwrap());
    let allow = remedy(&site);
    assert!(allow.contains(&format!("chgrp kvm {}", device.display())), "{allow}");
    assert_eq!(site.calls(), 0);
    let login = if is_root { "no logout is needed" } else { "usermod -aG kvm" };
    assert!(allow.contains(login), "{allow}");
    if is_root {
        let Some(Sandbox { account: Some(account), .. }) = &mut site.confinement.sandbox else { panic!("no account") };
        account.stage = Some("/agent-vm".into());
        assert!(matches!(site.choose(), Choice::NoKvm(_)), "the device was opened");
        assert!(remedy(&site).contains("that account is agent-vm's own for this machine"));
        // Control.
        fs::set_permissions(&device, fs::Permissions::from_mode(0o606)).unwrap();
        assert_eq!(site.probe(&device).gate().refusal().unwrap(), None);
    }
}
