//! Downloaded repositories with a hostile `.git`: agent-vm runs nothing from them, and nothing in them leads it to
//! another repository of the user.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Site, which};

/// Writes a program that leaves a mark when it runs; returns its path.
fn marker(site: &Site) -> String {
    site.script("marker", &format!("touch '{}'", site.path("executed").display()));
    site.path("marker").to_str().unwrap().to_owned()
}

fn executed(site: &Site) -> bool {
    let mark = site.path("executed");
    let there = mark.exists();
    drop(fs::remove_file(mark));
    there
}

/// Runs git as a user would in the repository; it may fail.
fn plain_git(site: &Site, args: &[&str]) {
    drop(site.command(which("git").unwrap()).args(args).output().unwrap());
}

/// Runs every command that reads the repository.
fn use_it(site: &Site) {
    site.run(&["create"]).ok();
    site.run(&["create", "--branch", "new"]).ok();
    for verb in ["status", "list", "create"] {
        site.run(&[verb]);
    }
    site.run(&["destroy"]).ok();
    site.run(&["destroy", "new"]).ok();
}

/// Each setting has a git command as a control, which runs the program that the setting names.
#[test]
fn programs_in_its_configuration_are_not_run() {
    let site = Site::new();
    let marker = marker(&site);
    site.commit(".gitattributes", "* filter=f diff=d\n");
    site.git(&["branch", "other"]);
    let through_shell = format!("!{marker}");
    let include = site.path("included");
    fs::write(&include, format!("[core]\n\tfsmonitor = {marker}\n")).unwrap();
    let include = include.to_str().unwrap();
    let mut all: Vec<(&str, &str)> = Vec::new();
    for (settings, control) in [
        (&[("core.fsmonitor", marker.as_str())][..], &["status"][..]),
        (&[("include.path", include)], &["status"]),
        (&[("includeIf.gitdir:/**.path", include)], &["status"]),
        (&[("filter.f.clean", &marker)], &["status"]),
        (
            &[("filter.f.smudge", &marker), ("filter.f.required", "true")],
            &["checkout", "--force", "other", "--", "README"],
        ),
        (&[("filter.f.process", &marker)], &["status"]),
        (&[("diff.external", &marker)], &["diff"]),
        (&[("diff.d.command", &marker)], &["diff"]),
        (&[("diff.d.textconv", &marker)], &["diff"]),
        (&[("alias.st", &through_shell)], &["st"]),
        (&[("core.sshCommand", &marker), ("remote.origin.url", "ssh://host.invalid/x")], &["fetch"]),
        (&[("core.gitProxy", &marker), ("remote.origin.url", "git://host.invalid/x")], &["fetch"]),
        (&[("remote.origin.url", "."), ("remote.origin.uploadpack", &marker)], &["fetch"]),
        (&[("remote.origin.url", "ext::sh -c touch% executed"), ("protocol.ext.allow", "always")], &["fetch"]),
        (&[("gpg.program", &marker), ("commit.gpgSign", "true")], &["commit", "--allow-empty", "-m", "x"]),
        (&[("core.editor", &marker)], &["commit", "--allow-empty"]),
    ] {
        let before = fs::read(site.path("app/.git/config")).unwrap();
        for (key, value) in settings {
            site.git(&["config", "--add", key, value]);
        }
        // The length is unchanged, so that git has to read the contents.
        site.write("app/README", "HELLO\n");
        plain_git(&site, control);
        let ext = site.path("app/executed").exists();
        assert!(executed(&site) || ext, "control: git {control:?} with {settings:?}");
        drop(fs::remove_file(site.path("app/executed")));
        fs::write(site.path("app/.git/config"), before).unwrap();
        all.extend(settings);
    }
    // Now all settings together.
    let mut file = fs::OpenOptions::new().append(true).open(site.path("app/.git/config")).unwrap();
    for (key, value) in all {
        let (section, name) = key.rsplit_once('.').unwrap();
        let section = match section.split_once('.') {
            Some((section, middle)) => format!("{section} \"{middle}\""),
            None => section.to_owned(),
        };
        writeln!(file, "[{section}]\n\t{name} = \"{value}\"").unwrap();
    }
    executed(&site);
    site.write("app/README", "HELLO\n");
    plain_git(&site, &["status"]);
    assert!(executed(&site), "control");
    use_it(&site);
    assert!(!executed(&site) && !site.path("app/executed").exists());
}

#[test]
fn its_hooks_are_not_run() {
    let site = Site::new();
    let marker = marker(&site);
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-push", "fsmonitor-watchman"] {
        fs::create_dir_all(site.path("app/.git/hooks")).unwrap();
        drop(fs::remove_file(site.path("app/.git/hooks").join(hook)));
        symlink(&marker, site.path("app/.git/hooks").join(hook)).unwrap();
    }
    site.git(&["checkout", "--quiet", "-b", "other"]);
    assert!(executed(&site), "control");
    use_it(&site);
    assert!(!executed(&site));
    fs::create_dir(site.path("app/planted")).unwrap();
    symlink(&marker, site.path("app/planted/reference-transaction")).unwrap();
    site.git(&["config", "core.hooksPath", site.path("app/planted").to_str().unwrap()]);
    site.git(&["branch", "another"]);
    assert!(executed(&site), "control");
    use_it(&site);
    assert!(!executed(&site));
}

/// Git fetches missing objects with a program that the configuration names.
#[test]
fn missing_objects_are_fetched_with_no_program_of_the_source() {
    let site = Site::new();
    let marker = marker(&site);
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", "."),
        ("remote.origin.promisor", "true"),
        ("remote.origin.uploadpack", &marker),
    ] {
        site.git(&["config", key, value]);
    }
    let blob = site.git(&["rev-parse", "HEAD:README"]);
    fs::remove_file(site.path("app/.git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    plain_git(&site, &["cat-file", "-p", &blob]);
    assert!(executed(&site), "control");
    site.run(&["create"])
        .exits(1)
        .gives_one_error()
        .says("is a partial clone that lacks 1 object")
        .says(" fetch --refetch");
    site.run(&["status"]);
    assert!(!executed(&site));
    site.assert_nothing_left();
}

/// A directory in a checkout that git takes for a bare repository, with a configuration of its own.
#[test]
fn an_embedded_bare_repository_is_refused() {
    let site = Site::new();
    let marker = marker(&site);
    site.git(&["clone", "--quiet", "--bare", ".", "docs"]);
    for (key, value) in [("core.fsmonitor", marker.as_str()), ("core.bare", "false"), ("core.worktree", "..")] {
        site.git(&["--git-dir=docs", "config", key, value]);
    }
    let git = which("git").unwrap();
    drop(site.command(git).arg("status").current_dir(site.path("app/docs")).output().unwrap());
    assert!(executed(&site), "control");
    for args in [&["create"][..], &["status"], &["destroy"], &[]] {
        let done = site.run_in(site.path("app/docs"), args).exits(1).gives_one_error();
        done.says("looks like a bare repository, but it lies in the repository").says("hint: cd ");
    }
    assert!(!executed(&site));
    assert!(site.names().is_empty());
}

/// Creates `private` beside `app`, with a commit that no machine of `app` may have; returns the commit.
fn private(site: &Site) -> String {
    site.git(&["clone", "--quiet", ".", "../private"]);
    site.git_in(site.path("private"), &["config", "user.name", "Test"]);
    site.git_in(site.path("private"), &["config", "user.email", "test@example.invalid"]);
    site.commit_in(site.path("private"), "secret", "x")
}

/// Checks that `create` fails with `words` and leaves no machine.
fn refused(site: &Site, secret: &str, words: &str) {
    site.run(&["create"]).exits(1).gives_one_error().says(words);
    assert!(site.names().is_empty(), "{secret}");
    site.assert_nothing_left();
}

#[test]
fn a_git_directory_of_another_repository_is_refused() {
    let site = Site::new();
    let secret = private(&site);
    let git_dir = site.path("app/.git");
    fs::rename(&git_dir, site.path("kept")).unwrap();
    let has_secret = |site: &Site| site.git(&["rev-parse", "HEAD"]) == secret;
    fs::write(&git_dir, "gitdir: ../private/.git\n").unwrap();
    assert!(has_secret(&site), "control");
    refused(&site, &secret, "does not name this directory as its work tree");
    fs::remove_file(&git_dir).unwrap();
    symlink("../private/.git", &git_dir).unwrap();
    assert!(has_secret(&site), "control");
    refused(&site, &secret, "does not name this directory as its work tree");
    fs::remove_file(&git_dir).unwrap();
    fs::rename(site.path("kept"), &git_dir).unwrap();
    fs::write(git_dir.join("commondir"), "../../private/.git\n").unwrap();
    assert_eq!(site.git(&["rev-parse", "refs/heads/main"]), secret, "control");
    refused(&site, &secret, "does not name this directory as its work tree");
    fs::remove_file(git_dir.join("commondir")).unwrap();
    site.run(&["create"]).ok();
}

#[test]
fn links_in_a_git_directory_are_refused() {
    let site = Site::new();
    let secret = private(&site);
    for (link, target) in [
        ("refs", "../../private/.git/refs"),
        ("objects", "../../private/.git/objects"),
        ("config", "../../private/.git/config"),
    ] {
        let (path, kept) = (site.path("app/.git").join(link), site.path("kept"));
        fs::rename(&path, &kept).unwrap();
        symlink(target, &path).unwrap();
        refused(&site, &secret, "it is a link to");
        fs::remove_file(&path).unwrap();
        fs::rename(&kept, &path).unwrap();
    }
    symlink("../../../../private/.git/refs/heads/main", site.path("app/.git/refs/heads/x")).unwrap();
    assert_eq!(site.git(&["rev-parse", "refs/heads/x"]), secret, "control");
    refused(&site, &secret, "it is a link to");
}

/// A repository may borrow objects from a store of the user, which `create` names.
#[test]
fn borrowed_objects_are_copied_and_their_store_is_named() {
    let site = Site::new();
    site.git(&["clone", "--quiet", "--shared", ".", "../shared"]);
    let store = site.path("app/.git/objects").display().to_string();
    site.run_in(site.path("shared"), &["create"]).ok().says("borrows objects from").says(&store);
    let workspace = site.machine("shared-main").join("workspace");
    site.git_in(&workspace, &["fsck", "--strict"]);
    assert!(!workspace.join(".git/objects/info/alternates").exists());
}

/// The configuration of a repository may name any directory of the user as its work tree.
#[test]
fn a_configured_work_tree_is_not_read() {
    let site = Site::new();
    private(&site);
    site.git(&["config", "core.worktree", site.path("private").to_str().unwrap()]);
    assert!(site.git(&["status", "--porcelain"]).contains("secret"), "control");
    let before = site.outside();
    site.run(&["create"]).ok().does_not_say("uncommitted").does_not_say("secret");
    assert_eq!(site.outside(), before);
}

/// A fifo would make git wait forever.
#[test]
fn fifos_in_a_repository_do_not_hang_create() {
    let site = Site::new();
    let mkfifo = |path: &Path| assert!(site.command("mkfifo").arg(path).status().unwrap().success());
    mkfifo(&site.path("app/.git/refs/heads/x"));
    site.run(&["create"]).exits(1).gives_one_error().says("neither a file nor a directory");
    fs::remove_file(site.path("app/.git/refs/heads/x")).unwrap();
    fs::remove_file(site.path("app/.git/HEAD")).unwrap();
    mkfifo(&site.path("app/.git/HEAD"));
    site.run(&["create"]).exits(1).gives_one_error().says("is not in a git repository");
}

/// Values of its configuration are arguments of git, never options.
#[test]
fn settings_that_look_like_options_are_values() {
    let site = Site::new();
    let settings = [("remote.origin.url", "--mirror=push"), ("user.name", "--unset"), ("user.email", "--get")];
    for (key, value) in settings {
        site.git(&["config", "--replace-all", "--", key, value]);
    }
    // Control: git takes the value for an option.
    let mut git = site.command(which("git").unwrap());
    assert!(!git.args(["remote", "add", "upstream", "--mirror=push"]).output().unwrap().status.success());
    site.run(&["create"]).ok();
    let workspace = site.machine("app-main").join("workspace");
    for (key, value) in settings {
        let key = key.replace("origin", "upstream");
        assert_eq!(site.git_in(&workspace, &["config", "--get", &key]), value);
    }
}

/// Git would wait for it until the time limit of the count, which is 30 s.
#[test]
fn a_fifo_that_git_reads_in_a_work_tree_does_not_delay_commands() {
    for name in [".gitignore", ".gitattributes", ".gitmodules", "deep/er/.gitignore", "deep/.git/HEAD"] {
        let site = Site::new();
        let fifo = site.path("app").join(name);
        fs::create_dir_all(fifo.parent().unwrap().join("refs")).unwrap();
        fs::create_dir_all(fifo.parent().unwrap().join("objects")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
        let said = format!("failed to count uncommitted changes: {} is not a regular file", fifo.display());
        let quick = |args: &[&str]| {
            let began = Instant::now();
            let done = site.run(args).ok();
            assert!(began.elapsed() < Duration::from_secs(8), "{name}: {args:?} took {:?}", began.elapsed());
            done
        };
        quick(&["create"]).says(&said);
        quick(&["mcp-config", "--client", "claude-code", "--write"]);
        // Control: without the fifo, the changes are counted.
        fs::remove_file(&fifo).unwrap();
        site.write("app/new", "x");
        site.run(&["destroy"]).ok();
        quick(&["create"]).says("not copied into the machine: 2 uncommitted changes");
    }
}

/// Git would follow them for ever: the number of paths doubles at each level.
#[test]
fn link_loops_in_references_are_refused() {
    let site = Site::new();
    site.create("main");
    for (link, target) in [
        ("refs/heads/p", "."),
        ("refs/heads/q", "../heads"),
        ("refs/tags/all", "../.."),
        ("refs/heads/team", "../remotes"),
    ] {
        let link = site.path("app/.git").join(link);
        fs::create_dir_all(site.path("app/.git/refs/remotes")).unwrap();
        symlink(target, &link).unwrap();
        let began = Instant::now();
        for args in [&["create", "--branch", "new"][..], &["destroy", "--yes"]] {
            site.run(args).exits(1).gives_one_error().says("is not a part of its repository: it is a link to");
        }
        site.run(&["status"]);
        assert!(began.elapsed() < Duration::from_secs(30), "{target}");
        assert_eq!(site.names(), ["app-main"], "{target}");
        fs::remove_file(&link).unwrap();
    }
    // Control: a symbolic reference may be a link to a file.
    symlink("main", site.path("app/.git/refs/heads/same")).unwrap();
    site.run(&["create", "--branch", "same"]).ok();
}
