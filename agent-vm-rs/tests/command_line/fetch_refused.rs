//! What a hostile guest offers to `fetch` is refused or bounded, and the source repository stays as it was.

use std::fs;
use std::path::PathBuf;

use crate::support::Site;

fn machine() -> (Site, PathBuf) {
    let site = Site::new();
    if crate::support::which("bwrap").is_some() {
        site.restore("bwrap");
    }
    let (workspace, _) = site.create_with_work();
    (site, workspace)
}

/// Checks that a fetch fails, changes nothing in the source repository, and gives a way out.
#[track_caller]
fn refuses(site: &Site, args: &[&str], why: &str, hint: &str) {
    let before = crate::support::tree(&site.repo());
    let done = site.run(&[&["fetch"], args].concat()).exits(1).gives_one_error();
    done.says(why).says(hint);
    assert_eq!(crate::support::tree(&site.repo()), before);
    site.assert_nothing_left();
}

/// Writes an object that git would not write.
fn write_object(site: &Site, workspace: &PathBuf, kind: &str, contents: &[u8]) -> String {
    site.write("object", contents);
    let object = site.path("object").display().to_string();
    site.git_in(workspace, &["hash-object", "-w", "-t", kind, "--literally", &object])
}

#[test]
fn objects_that_fail_gits_checks_are_refused() {
    let (site, workspace) = machine();
    let blob = write_object(&site, &workspace, "blob", b"x");
    let raw: Vec<u8> = (0..40).step_by(2).map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap()).collect();
    for (name, tree) in [
        // Two entries of one name, and a link as .gitmodules.
        ("duplicate", [b"100644 a\0".as_slice(), &raw, b"100644 a\0", &raw].concat()),
        ("gitmodules", [b"120000 .gitmodules\0".as_slice(), &raw].concat()),
    ] {
        let tree = write_object(&site, &workspace, "tree", &tree);
        let commit = site.git_in(&workspace, &["commit-tree", "-m", name, &tree]);
        site.git_in(&workspace, &["update-ref", "refs/heads/bad", &commit]);
        refuses(&site, &[], "git refuses an object of the machine", "agent-vm exec app-main -- git fsck");
    }
    // Control: without them it works.
    site.git_in(&workspace, &["update-ref", "-d", "refs/heads/bad"]);
    site.run(&["fetch"]).ok().prints("1 new commit");
}

#[test]
fn missing_and_damaged_objects_are_refused() {
    let (site, workspace) = machine();
    let tree = site.git_in(&workspace, &["rev-parse", "HEAD^{tree}"]);
    fs::remove_file(workspace.join(".git/objects").join(&tree[..2]).join(&tree[2..])).unwrap();
    refuses(&site, &["--committed"], "failed to fetch from app-main", "agent-vm destroy app-main --keep workspace");
}

#[test]
fn size_and_number_are_bounded() {
    let (site, workspace) = machine();
    fs::write(workspace.join("large"), vec![0; 3 << 20]).unwrap();
    site.git_in(&workspace, &["add", "large"]);
    site.git_in(&workspace, &["commit", "--quiet", "--message", "large"]);
    refuses(&site, &["--max-size", "1"], "at most 1.00 MiB are fetched", "agent-vm fetch --max-size 4");
    site.run(&["fetch", "--max-size", "4"]).ok().prints("2 new commits");
    let head = site.git_in(&workspace, &["rev-parse", "HEAD"]);
    let lines: String = (0..10_001).map(|number| format!("{head} refs/heads/many/{number:05}\n")).collect();
    fs::write(workspace.join(".git/packed-refs"), lines).unwrap();
    refuses(&site, &[], "at most 10000 are fetched", "git branch -D");
}

/// Names that the file system of the source cannot store.
#[test]
fn long_names_are_stored_under_another() {
    let (site, workspace) = machine();
    let head = site.git_in(&workspace, &["rev-parse", "HEAD"]);
    let long = format!("refs/heads/{}", "x".repeat(300));
    fs::write(workspace.join(".git/packed-refs"), format!("{head} {long}\n")).unwrap();
    site.run(&["fetch"]).ok().prints("refs/agent-vm/app-main/long/");
    site.run(&["fetch"]).ok().prints("nothing new");
}

/// The guest chooses names, messages and contents.
#[test]
fn no_control_character_of_the_guest_is_printed() {
    let (site, workspace) = machine();
    let evil = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}";
    fs::write(workspace.join(format!("file{evil}")), format!("contents{evil}\n")).unwrap();
    site.git_in(&workspace, &["add", "--all"]);
    let name = format!("user.name=n{evil}");
    site.git_in(&workspace, &["-c", &name, "commit", "--quiet", "--message", &format!("message{evil}")]);
    site.git_in(&workspace, &["branch", "b\u{9b}31m\u{202e}"]);
    for args in [
        &["fetch"][..],
        &["log", "--patch", "--stat"],
        &["log", "--json"],
        &["diff"],
        &["diff", "--stat"],
        &["diff", "--json"],
        &["merge", "--ref", "nothing"],
        &["merge"],
    ] {
        let done = site.run(args);
        let text = format!("{}{}", done.stdout, done.stderr);
        let control = text.chars().find(|c| (c.is_control() && *c != '\n' && *c != '\t') || *c == '\u{202e}');
        assert_eq!(control, None, "{args:?}: {text:?}");
        assert!(text.contains("file") || text.contains("b\u{fffd}") || !text.is_empty(), "control: {text:?}");
    }
    // Control: they are in the commit.
    assert!(site.git(&["show", "--format=%B", "refs/agent-vm/app-main/heads/main"]).contains("message\u{1b}[2J"));
}

/// The merged commit has hooks at the path that the user's configuration names.
#[test]
fn a_merge_runs_no_hook() {
    let (site, workspace) = machine();
    let mark = site.path("executed");
    site.git(&["config", "core.hooksPath", "hooks"]);
    fs::create_dir(workspace.join("hooks")).unwrap();
    for hook in ["post-merge", "post-checkout", "reference-transaction", "post-commit", "pre-merge-commit"] {
        site.script("hook", &format!("touch '{}'", mark.display()));
        fs::copy(site.path("hook"), workspace.join("hooks").join(hook)).unwrap();
    }
    site.git_in(&workspace, &["add", "--all"]);
    site.git_in(&workspace, &["commit", "--quiet", "--message", "hooks"]);
    site.run(&["merge"]).ok();
    site.run(&["checkout", "--name", "other"]).ok();
    site.run(&["apply", "app-main"]).ok();
    assert!(!mark.exists());
    // Control: git itself would run them.
    site.git(&["commit", "--quiet", "--allow-empty", "--message", "x"]);
    assert!(mark.exists(), "control");
}

/// The merged commit has the program that a filter of the user's configuration names.
#[test]
fn a_merge_runs_no_program_of_the_work_tree() {
    let (site, workspace) = machine();
    let mark = site.path("executed");
    site.script("app/filter.sh", "exec cat");
    site.write("app/.gitattributes", "*.dat filter=x\n");
    site.git(&["add", "--all"]);
    site.git(&["commit", "--quiet", "--message", "filter"]);
    site.git_in(&workspace, &["pull", "--quiet", "--rebase", site.repo().to_str().unwrap(), "main"]);
    site.script("changed", &format!("touch '{}'; exec cat", mark.display()));
    fs::copy(site.path("changed"), workspace.join("filter.sh")).unwrap();
    fs::write(workspace.join("z.dat"), "x").unwrap();
    site.git_in(&workspace, &["add", "--all"]);
    site.git_in(&workspace, &["commit", "--quiet", "--message", "changed"]);
    site.run(&["fetch"]).ok();
    let link = site.path("link");
    std::os::unix::fs::symlink(site.repo(), &link).unwrap();
    let through_link = link.join("filter.sh").display().to_string();
    for command in ["./filter.sh", "sh filter.sh %f", "filter.sh", &through_link, "python3 -m filter"] {
        for (scope, says) in [("--global", "a program that files of the work tree"), ("--local", "an unknown program")]
        {
            site.git(&["config", scope, "filter.x.smudge", command]);
            for verb in ["merge", "apply", "checkout"] {
                site.run(&[verb]).exits(1).gives_one_error().says("git would run ").says(says);
            }
            site.git(&["config", scope, "--unset", "filter.x.smudge"]);
        }
    }
    site.git(&["config", "gpg.program", "./filter.sh"]);
    site.run(&["merge"]).exits(1).gives_one_error().says("gpg.program = ./filter.sh");
    site.git(&["config", "--unset", "gpg.program"]);
    assert!(!mark.exists());
    // Control: git itself runs it; a program elsewhere is allowed.
    site.git(&["config", "filter.x.smudge", "./filter.sh"]);
    site.git(&["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(mark.exists(), "control");
    site.git(&["config", "filter.x.smudge", "cat"]);
    site.run(&["merge"]).ok();
}

/// The source repository was downloaded, and machines' names are known before.
#[test]
fn no_reference_outside_the_machines_own_is_written() {
    let (site, workspace) = machine();
    site.git(&["branch", "victim"]);
    let victim = site.git(&["commit-tree", "-p", "main", "-m", "own", "main^{tree}"]);
    site.git(&["update-ref", "refs/heads/victim", &victim]);
    site.git_in(&workspace, &["branch", "linked"]);
    let machine = "refs/agent-vm/app-main";
    for (name, target) in [("main", "victim"), ("gone", "victim"), ("new", "unborn")] {
        site.git(&["symbolic-ref", &format!("{machine}/heads/{name}"), &format!("refs/heads/{target}")]);
    }
    std::os::unix::fs::symlink("refs/heads/unborn-too", site.repo().join(".git").join(machine).join("heads/linked"))
        .unwrap();
    site.git_in(&workspace, &["branch", "new"]);
    site.run(&["fetch"]).ok();
    assert_eq!(site.git(&["rev-parse", "refs/heads/victim"]), victim);
    let branches = site.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    assert_eq!(branches, "main\nvictim");
    let head = site.git_in(&workspace, &["rev-parse", "main"]);
    assert_eq!(site.git(&["rev-parse", &format!("{machine}/heads/main")]), head, "control: it is fetched");
    site.run(&["fetch"]).ok().prints("nothing new");
}

/// The machine is not to blame.
#[test]
fn a_damaged_source_is_named() {
    let (site, _) = machine();
    site.write("app/.git/shallow", "damaged\n");
    let refused = site.run(&["fetch"]).exits(1).gives_one_error();
    refused.says("app/.git/shallow is damaged").says("new clone").does_not_say("git fsck");
    site.run(&["destroy", "--yes"]).exits(1).says("app/.git/shallow is damaged");
    fs::remove_file(site.path("app/.git/shallow")).unwrap();
    let config = site.path("app/.git/config");
    fs::rename(&config, site.path("config-of-app")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &config, rustix::fs::Mode::RUSR).unwrap();
    site.run(&["fetch"]).exits(1).gives_one_error().says("app/.git/config is not a regular file").says("ls -l --");
    // Control.
    fs::rename(site.path("config-of-app"), &config).unwrap();
    site.run(&["fetch"]).ok().prints("1 new commit");
}
