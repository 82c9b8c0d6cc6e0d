//! `create` that fails: one clear error, nothing left behind, and the next command works.

use std::fs;

use crate::support::{Site, namespaces, which};

#[test]
fn commands_outside_a_repository_are_refused() {
    let site = Site::new();
    for args in [&["create"][..], &["status"], &["start"], &["destroy"], &[]] {
        site.run_in(site.path("home"), args)
            .exits(1)
            .gives_one_error()
            .says("is not in a git repository")
            .says("hint: ");
    }
    site.assert_nothing_left();
}

#[test]
fn a_detached_head_needs_a_branch() {
    let site = Site::new();
    site.git(&["checkout", "--quiet", "--detach"]);
    for (args, hint) in [
        (&["create"][..], "hint: choose a branch: agent-vm create --branch BRANCH"),
        (&["status"], "hint: name a branch or a machine"),
        (&[], "hint: choose a branch"),
    ] {
        site.run(args).exits(1).gives_one_error().says("is detached: there is no current branch").says(hint);
    }
    site.run(&["create", "--branch", "main"]).ok();
    site.run(&["status", "main"]).ok();
}

#[test]
fn an_empty_repository_is_refused() {
    let site = Site::new();
    fs::create_dir(site.path("empty")).unwrap();
    site.git_in(site.path("empty"), &["init", "--quiet"]);
    for args in [&["create"][..], &["create", "--branch", "x"], &[]] {
        site.run_in(site.path("empty"), args)
            .exits(1)
            .gives_one_error()
            .says("has no commit yet")
            .says("commit --allow-empty -m 'first commit'");
    }
    site.assert_nothing_left();
    assert!(site.names().is_empty());
}

#[test]
fn a_missing_program_is_named_with_the_command_that_installs_it() {
    for (program, package) in [("git", "git"), ("ssh-keygen", "openssh")] {
        let site = Site::new();
        site.without(program);
        site.run(&["create"])
            .exits(1)
            .gives_one_error()
            .says(&format!("{program} is not on PATH"))
            .says("hint: install it: ")
            .says(package);
        assert!(site.names().is_empty());
        site.assert_nothing_left();
        site.restore(program);
        site.run(&["create"]).ok();
    }
}

#[test]
fn a_failing_program_is_an_error_with_its_last_lines() {
    let site = Site::new();
    site.intercept("git", "clone", "echo 'fatal: the dog ate it' >&2; exit 77");
    site.run(&["create"]).exits(1).gives_one_error().says("git failed (exit status: 77)").says("fatal: the dog ate it");
    site.assert_nothing_left();
    site.restore("git");
    site.run(&["create"]).ok();
}

#[test]
fn a_state_directory_that_cannot_be_made_is_an_error() {
    let site = Site::new();
    site.write("file", "");
    let below = site.path("file/state");
    site.run(&["--state-dir", below.to_str().unwrap(), "create"]).exits(1).gives_one_error().says("file/state");
    site.run(&["--state-dir", below.to_str().unwrap(), "list"]).exits(1).gives_one_error();
}

/// The file system is too small for the clone.
#[test]
fn create_on_a_full_disk_leaves_nothing() {
    let Some(flags) = namespaces(&["--mount"]) else { return };
    let site = Site::new();
    // The bytes of a linear congruential generator, which git cannot compress.
    let mut seed = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    });
    site.write("app/large", bytes.take(3 << 20).collect::<Vec<_>>());
    site.commit("more", "x");
    fs::create_dir_all(site.state()).unwrap();
    let script = format!(
        "mount=$1 state=$2\n\
         \"$mount\" -t tmpfs -o size=2m none \"$state\" || exit 66\n\
         '{0}' create; echo \"code $?\"; echo left $(ls -A \"$state\" | grep -v '^[.]locks$')\n\
         \"$mount\" -o remount,size=64m \"$state\" || exit 66\n\
         '{0}' create; echo \"code $?\"; echo then $(ls \"$state\")\n",
        env!("CARGO_BIN_EXE_agent-vm")
    );
    let mut command = site.command("unshare");
    command.args(flags).args(["sh", "-c", &script, "sh"]).arg(which("mount").unwrap()).arg(site.state());
    let output = command.output().unwrap();
    if output.status.code() == Some(66) {
        crate::support::skip("no tmpfs can be mounted here");
        return;
    }
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("No space left on device") && said.contains("error: failed to create app-main"), "{said}");
    let lines: Vec<_> = printed.lines().filter(|line| !line.contains("To start app-main")).map(str::trim_end).collect();
    assert_eq!(lines, ["code 1", "left", "code 0", "then app-main"], "{said}");
}
