//! Programs are found only in those directories of PATH that have absolute paths: a relative one would lead into the guest's
//! workspace, or into the work tree that the machine's commits are merged into.

use std::fs;

use crate::support::{Site, which};

#[test]
fn no_program_of_a_work_tree_is_run() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    let mark = site.path("executed");
    for program in ["bwrap", "cp", "git", "prlimit", "setpriv", "sh", "unshare"] {
        let real = which(program).map_or_else(|| "/bin/false".into(), |real| real.display().to_string());
        let own = site.path("bin").display().to_string();
        site.script(
            "planted",
            &format!("PATH='{own}:/usr/bin:/bin'\ntouch '{}'\nexec '{real}' \"$@\"", mark.display()),
        );
        for dir in [&workspace, &site.repo()] {
            for place in [dir.join("tools"), dir.clone()] {
                fs::create_dir_all(&place).unwrap();
                fs::copy(site.path("planted"), place.join(program)).unwrap();
            }
        }
    }
    let own = site.path("bin").display().to_string();
    for path in [format!("./tools:{own}"), format!("tools:{own}"), format!(":{own}")] {
        let mut control = site.command("/bin/sh");
        control.args(["-c", "prlimit --version"]).env("PATH", &path).current_dir(&workspace);
        assert!(control.output().unwrap().status.success() && mark.exists(), "control: {path}");
        fs::remove_file(&mark).unwrap();
        for args in [&["status"][..], &["list"], &["fetch"], &["diff"], &["merge"], &["checkout", "--name", "other"]] {
            let done = site.run_with(&[("PATH", &path)], args);
            assert!(!mark.exists(), "{path}: {args:?}: {done:?}");
        }
        site.git(&["checkout", "--quiet", "main"]);
        site.git(&["branch", "--quiet", "-D", "other"]);
    }
    let path = format!("./tools:{own}");
    site.run_with(&[("PATH", &path)], &["destroy", "--yes"]).ok();
    assert!(!mark.exists() && site.kept().len() == 1);
}
