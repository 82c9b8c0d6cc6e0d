//! `merge`, `apply` and `checkout` run the user's git. It runs no program that the machine chose, or that a downloaded
//! repository names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::Site;

const VERBS: [&str; 3] = ["merge", "apply", "checkout"];

/// A machine whose commit has a file with the filter `x`. Returns the mark of a program that the filter may run.
fn machine() -> (Site, PathBuf) {
    let site = Site::new();
    site.commit(".gitattributes", "*.dat filter=x\n");
    site.commit(".gitconfig", "[core]\n\tabbrev = 12\n");
    let (workspace, _) = site.create_with_work();
    site.commit_in(&workspace, "a.dat", "x\n");
    site.run(&["fetch"]).ok();
    let mark = site.path("executed");
    site.script("program", &format!("touch '{}'; exec cat", mark.display()));
    (site, mark)
}

/// Git itself runs the program of the filter.
#[track_caller]
fn control(site: &Site, mark: &PathBuf) {
    site.git(&["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(mark.exists(), "control");
    fs::remove_file(mark).unwrap();
    site.git(&["reset", "--quiet", "--hard", "HEAD~2"]);
}

/// Many repositories have a file with settings that their users include.
#[test]
fn settings_in_a_file_of_the_work_tree_are_refused() {
    let (site, mark) = machine();
    site.git(&["config", "include.path", "../.gitconfig"]);
    // As an earlier commit of the machine leaves it.
    let program = site.path("program").display().to_string();
    site.write("app/.gitconfig", format!("[filter \"x\"]\n\tsmudge = {program}\n"));
    control(&site, &mark);
    site.write("app/.gitconfig", format!("[filter \"x\"]\n\tsmudge = {program}\n"));
    for verb in VERBS {
        let done = site.run(&[verb]).exits(1).gives_one_error();
        done.says("git would use settings in a file of the work tree, which the machine may have changed")
            .says("app/.gitconfig");
    }
    assert!(!mark.exists());
    // Control: a file elsewhere.
    site.git(&["checkout", "--quiet", "--", ".gitconfig"]);
    site.write("shared", "[core]\n\tabbrev = 12\n");
    site.git(&["config", "include.path", site.path("shared").to_str().unwrap()]);
    site.run(&["merge"]).ok();
}

/// The configuration of a downloaded repository names a program of the host.
#[test]
fn programs_of_the_repositorys_own_configuration_are_refused() {
    let (site, mark) = machine();
    let program = site.path("program").display().to_string();
    site.git(&["config", "filter.x.smudge", &program]);
    control(&site, &mark);
    for verb in VERBS {
        let done = site.run(&[verb]).exits(1).gives_one_error();
        done.says("git would run an unknown program").says("git config --global filter.x.smudge");
    }
    // Programs that run what a file of the machine says.
    site.git(&["config", "--unset", "filter.x.smudge"]);
    for command in ["sqlite3 %f", "timeout 5 sh", "/usr/bin/timeout 5 sh"] {
        site.git(&["config", "--global", "filter.x.smudge", command]);
        site.run(&["merge"]).exits(1).gives_one_error().says("filter.x.smudge = ");
    }
    assert!(!mark.exists());
    // Control: the user's own program, and a well-known one of the repository.
    site.git(&["config", "--global", "filter.x.smudge", &program]);
    site.run(&["merge"]).ok();
    assert!(mark.exists());
    site.git(&["config", "filter.x.smudge", "cat"]);
    site.run(&["checkout", "--name", "other"]).ok();
}

/// The configuration names a program of the main work tree, and the merge is in a linked one.
#[test]
fn programs_of_another_work_tree_are_refused() {
    let (site, mark) = machine();
    site.script("app/own", &format!("touch '{}'; exec cat", mark.display()));
    site.git(&["config", "--global", "filter.x.smudge", site.path("app/own").to_str().unwrap()]);
    site.git(&["worktree", "add", "--quiet", "../linked"]);
    for verb in VERBS {
        let done = site.run_in(site.path("linked"), &[verb, "app-main"]).exits(1).gives_one_error();
        done.says("git would run a program that files of the work tree can change");
    }
    assert!(!mark.exists());
    // Control: git itself.
    site.git_in(site.path("linked"), &["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(mark.exists(), "control");
}

/// Git would wait for a writer.
#[test]
fn a_pipe_that_the_configuration_includes_is_not_waited_for() {
    let (site, _) = machine();
    mkfifoat(CWD, site.path("app/.git/pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let began = Instant::now();
    site.write("app/.git/config", format!("{}[include]\n\tpath = pipe\n", site.read("app/.git/config")));
    site.run(&["merge"]).exits(124).gives_one_error().says("failed to read git's configuration");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

/// Git lists the git directory of such a repository, and of a submodule, as a work tree.
#[test]
fn a_repository_with_its_git_directory_elsewhere_is_no_exception() {
    let site = Site::new();
    site.git(&["init", "--quiet", "--initial-branch=main", "--separate-git-dir=../elsewhere", "../apart"]);
    let apart = site.path("apart");
    for (key, value) in [("user.name", "Test"), ("user.email", "test@example.invalid")] {
        site.git_in(&apart, &["config", key, value]);
    }
    site.commit_in(&apart, "file", "x");
    site.run_in(&apart, &["create"]).ok();
    let workspace = site.machine(&site.names()[0]).join("workspace");
    let commit = site.commit_in(workspace, "work", "x");
    site.run_in(&apart, &["fetch"]).ok();
    site.run_in(&apart, &["merge"]).ok();
    assert_eq!(site.git_in(&apart, &["rev-parse", "HEAD"]), commit);
}

/// Git would write the machine's files there, for example into the home directory.
#[test]
fn the_work_tree_that_a_configuration_names_is_not_changed() {
    let (site, _) = machine();
    site.git(&["worktree", "add", "--quiet", "../linked"]);
    site.git(&["config", "core.repositoryFormatVersion", "1"]);
    site.git(&["config", "extensions.worktreeConfig", "true"]);
    let home = site.path("home");
    site.write("app/.git/worktrees/linked/config.worktree", format!("[core]\n\tworktree = {}\n", home.display()));
    for verb in VERBS {
        let refused = site.run_in(site.path("linked"), &[verb, "app-main"]).exits(1).gives_one_error();
        refused.says("git would change files outside").says("core.worktree");
    }
    assert!(!home.join("a.dat").exists());
    // Control: git itself.
    site.git_in(site.path("linked"), &["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(home.join("a.dat").exists(), "control");
    fs::remove_file(site.path("app/.git/worktrees/linked/config.worktree")).unwrap();
    site.git_in(site.path("linked"), &["reset", "--quiet", "--hard", "HEAD~2"]);
    site.run_in(site.path("linked"), &["merge", "app-main"]).ok();
}

/// Git takes any file of the user as the message of the merge, which a later `push` brings into the machine.
#[test]
fn a_repository_gives_git_no_options_that_read_files() {
    let (site, _) = machine();
    site.commit("own", "x");
    site.write("home/key", "secret\n");
    let file = format!("-F {}", site.path("home/key").display());
    for (key, value) in [("branch.main.mergeOptions", file.as_str()), ("pull.twohead", "ours")] {
        site.git(&["config", key, value]);
        let refused = site.run(&["merge"]).exits(1).gives_one_error();
        refused.says("the repository gives git an option that it must not choose").says(value);
        // Control: git itself.
        site.git(&["merge", "--quiet", "-m", "x", "refs/agent-vm/app-main/heads/main"]);
        let (message, files) = (site.git(&["log", "-1", "--format=%B"]), site.git(&["ls-tree", "HEAD"]));
        assert!(message.contains("secret") || !files.contains("a.dat"), "control");
        site.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        site.git(&["config", "--unset", key]);
    }
    // Control: the user's own options, those of another branch, and harmless ones.
    site.git(&["config", "branch.other.mergeOptions", &file]);
    site.git(&["config", "--global", "branch.main.mergeOptions", &file]);
    site.git(&["config", "branch.main.mergeOptions", "--no-ff -X theirs"]);
    site.run(&["merge"]).ok();
}

/// Git writes the message of the machine's commit there.
#[test]
fn git_writes_through_no_link_of_its_directory() {
    let (site, _) = machine();
    // So that nothing is fast-forwarded.
    site.commit("own", "x");
    site.write("home/profile", "own\n");
    let profile = site.path("home/profile");
    for name in ["MERGE_MSG", "logs/HEAD"] {
        let path = site.path("app/.git").join(name);
        drop(fs::remove_file(&path));
        symlink(&profile, &path).unwrap();
        for verb in VERBS {
            site.run(&[verb, "app-main"]).exits(1).gives_one_error().says(&format!(".git/{name} is not a part"));
        }
        assert_eq!(site.read("home/profile"), "own\n");
        // Control: git itself.
        site.git(&["cherry-pick", "refs/agent-vm/app-main/heads/main"]);
        assert!(site.read("home/profile").contains("a.dat"), "control");
        site.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        drop(fs::remove_file(&path));
        site.write("home/profile", "own\n");
    }
    symlink(site.path("home"), site.path("app/.git/own-link")).unwrap();
    site.run(&["merge"]).ok();
}

/// Git makes the file that a dangling link leads to, and writes the name of a branch into it.
#[test]
fn git_makes_no_file_that_a_link_in_place_of_the_configuration_leads_to() {
    let (site, _) = machine();
    let (config, profile) = (site.path("app/.git/config"), site.path("home/profile"));
    fs::rename(&config, site.path("saved")).unwrap();
    symlink(&profile, &config).unwrap();
    site.run(&["checkout", "--name", "other"]).exits(1).gives_one_error().says(".git/config is not a part");
    assert!(!profile.exists());
    // Control: git itself.
    site.git(&["config", "branch.other.remote", "."]);
    assert!(profile.exists(), "control");
    fs::rename(site.path("saved"), &config).unwrap();
    site.run(&["checkout", "--name", "other"]).ok();
}

/// An activated environment of Python is in PATH, and often in the work tree.
#[test]
fn a_program_that_the_machine_puts_on_path_is_not_run() {
    let (site, mark) = machine();
    let workspace = site.machine("app-main").join("workspace");
    fs::create_dir(workspace.join(".venv")).unwrap();
    let cat = site.path("bin/cat");
    site.script("program", &format!("touch '{}'; exec '{}'", mark.display(), cat.display()));
    fs::copy(site.path("program"), workspace.join(".venv/cat")).unwrap();
    site.commit_in(&workspace, "b.dat", "x");
    site.run(&["fetch"]).ok();
    let path = format!("{}:{}", site.path("app/.venv").display(), site.path("bin").display());
    let variables = [("PATH", path.as_str())];
    site.git(&["config", "--global", "filter.x.smudge", "cat"]);
    site.run_with(&variables, &["merge"]).ok();
    assert!(site.path("app/.venv/cat").exists() && !mark.exists());
    // Now it is there.
    for scope in ["--global", "--local"] {
        site.git(&["config", scope, "filter.x.smudge", "cat"]);
        for verb in VERBS {
            let refused = site.run_with(&variables, &[verb]).exits(1).gives_one_error();
            refused.says("git would run a program that files of the work tree can change");
        }
    }
    // Control: git itself.
    let mut git = site.command(crate::support::which("git").unwrap());
    git.env("PATH", &path).args(["reset", "--quiet", "--hard", "HEAD~1"]);
    assert!(git.status().unwrap().success());
    site.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let mut git = site.command(crate::support::which("git").unwrap());
    git.env("PATH", &path).args(["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(git.status().unwrap().success() && mark.exists(), "control");
}

/// The words of a documented command are no files.
#[test]
fn a_file_with_the_name_of_a_subcommand_is_in_nobodys_way() {
    let (site, _) = machine();
    site.git(&["config", "--global", "filter.lfs.clean", "git-lfs clean -- %f"]);
    site.git(&["config", "filter.lfs.smudge", "git-lfs smudge -- %f"]);
    site.commit("clean", "#!/bin/sh\n");
    site.commit("smudge", "#!/bin/sh\n");
    site.run(&["merge"]).ok();
}

/// A partial clone's configuration says how git gets missing objects.
#[test]
fn no_missing_object_is_fetched_by_a_program_of_the_configuration() {
    let (site, mark) = machine();
    site.script("program", &format!("touch '{}'; exit 1", mark.display()));
    let program = site.path("program").display().to_string();
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "o"),
        ("remote.o.promisor", "true"),
        ("remote.o.url", "ssh://host.invalid/r"),
        ("core.sshCommand", &program),
        ("protocol.ssh.allow", "always"),
    ] {
        site.git(&["config", key, value]);
    }
    let blob = site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main:a.dat"]);
    // Unpack, then lose the file.
    let packs = fs::read_dir(site.path("app/.git/objects/pack")).unwrap().flatten().map(|entry| entry.path());
    for pack in packs.filter(|path| path.extension().is_some_and(|end| end == "pack")).collect::<Vec<_>>() {
        let moved = site.path("moved.pack");
        fs::rename(&pack, &moved).unwrap();
        fs::remove_file(pack.with_extension("idx")).unwrap();
        let mut unpack = site.command(crate::support::which("git").unwrap());
        let unpack = unpack.args(["unpack-objects", "-q"]).stdin(fs::File::open(&moved).unwrap());
        assert!(unpack.status().unwrap().success());
    }
    let (dir, name) = blob.split_at(2);
    fs::remove_file(site.path("app/.git/objects").join(dir).join(name)).unwrap();
    site.run(&["merge"]).exits(1).gives_one_error();
    assert!(!mark.exists());
    // A program for a protocol of another project.
    fs::copy(site.path("program"), site.path("bin/git-remote-other")).unwrap();
    site.git(&["config", "remote.o.url", "other::r"]);
    site.git(&["clean", "--quiet", "--force"]);
    site.run(&["merge"]).exits(1).gives_one_error();
    site.git(&["config", "protocol.other.allow", "always"]);
    site.run(&["merge"]).exits(1).gives_one_error().says("protocol.other.allow = always");
    assert!(!mark.exists());
    // Control: git itself runs it. (It has left a part of the files.)
    site.git(&["clean", "--quiet", "--force"]);
    let git = |args: &[&str]| site.command(crate::support::which("git").unwrap()).args(args).output().unwrap();
    let merged = git(&["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(!merged.status.success(), "{merged:?}");
    assert!(mark.exists(), "control: {merged:?}");
}
