//! What root in a guest can make in the shared workspace, and that none of it has an effect outside.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use crate::root::Package;
use crate::site::site;

#[test]
fn files_of_guest_root_stay_in_the_workspace() {
    let Some(site) = site() else { return };
    site.create("main");
    let machine = site.machine("app-main");
    let workspace = machine.join("workspace");
    let outside = fs::canonicalize(site.repo()).unwrap().join("../outside");
    fs::write(&outside, "untouched").unwrap();
    let before = fs::metadata(&outside).unwrap();
    let script = format!(
        "id -u >whoami\n\
         ln -s /etc/passwd absolute; ln -s ../../../../../../../../etc/passwd relative; ln -s / root\n\
         ln -s '{}' outside\n\
         mkfifo fifo\n\
         mknod block b 254 0; mknod memory c 1 1; mknod gone c 0 0\n\
         cp /usr/bin/id setuid; chown 0:0 setuid; chmod 6755 setuid\n\
         ln README second-name; ln /etc/hostname foreign\n\
         chown 4242:4242 README; chown -h 0:0 outside\n\
         echo x >../escaped; echo x >../../escaped\n\
         mkdir closed; touch closed/file; chmod 0 closed\n\
         touch finished; sync\n",
        outside.display()
    );
    Package::copy(&site, "app-main").boot_into(&script);
    // The script ends with a panic of the guest's kernel, which has lost its first process.
    site.run(&["start", "main"]).exits(1).says("did not start completely");

    // Controls: the script ran as root, came to its end, and could make the harmless files.
    assert_eq!(fs::read_to_string(workspace.join("whoami")).unwrap(), "0\n");
    assert!(workspace.join("finished").exists());
    let kind = |name: &str| workspace.join(name).symlink_metadata().map(|metadata| metadata.file_type());
    assert!(kind("fifo").unwrap().is_fifo() && kind("absolute").unwrap().is_symlink());
    assert_eq!(fs::metadata(workspace.join("README")).unwrap().nlink(), 2);

    for device in ["block", "memory", "gone"] {
        let made = kind(device).is_ok_and(|kind| kind.is_block_device() || kind.is_char_device());
        assert!(!made, "{device} is a device on the host");
    }
    let owner = fs::metadata(&workspace).unwrap();
    assert_ne!(owner.uid(), 0);
    for entry in fs::read_dir(&workspace).unwrap().map(Result::unwrap) {
        let made = entry.path().symlink_metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (owner.uid(), owner.gid()), "{}", entry.path().display());
    }
    assert!(!machine.join("escaped").exists() && !machine.join("../escaped").exists());
    assert_eq!(fs::metadata(&machine).unwrap().mode() & 0o777, 0o700);
    if rustix::process::geteuid().is_root() {
        assert_no_user_can_run(&workspace.join("setuid"));
    }

    // The host's commands handle all these files and follow none of the links.
    let begun = std::time::Instant::now();
    site.run(&["status", "main"]).ok();
    site.run(&["destroy", "main", "--yes"]).ok().says("removed app-main");
    assert!(begun.elapsed().as_secs() < 60, "the fifo was waited for");
    let after = fs::metadata(&outside).unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
}

/// Checks that no other user can run the program that the guest has left, not even the owner of the file.
fn assert_no_user_can_run(program: &Path) {
    let owner = program.metadata().unwrap().uid();
    let run_as_owner = |program: &Path| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args([&format!("--reuid={owner}"), "--regid=65534", "--clear-groups"]).arg(program);
        setpriv.output().unwrap().status.success()
    };
    assert!(run_as_owner(Path::new("/usr/bin/true")));
    assert!(!run_as_owner(program));
}
