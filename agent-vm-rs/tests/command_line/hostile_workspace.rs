//! The guest controls the workspace's repository. Examining and removing it runs nothing that the guest planted there,
//! follows no link that the guest made, and does not hang.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Site, tree, which};

/// Longest time for a command: a git that a hostile repository keeps busy is killed after 20 s.
const LONG: Duration = Duration::from_secs(35);

struct Hostile {
    site: Site,
    workspace: PathBuf,
    planted: String,
}

impl Hostile {
    /// Creates a machine, and a program to plant, which leaves a mark when it runs. Where it is confined and cannot leave
    /// one, it takes too long instead.
    fn new() -> Self {
        let site = Site::new();
        if which("bwrap").is_some() {
            site.restore("bwrap");
        }
        // A file of the workspace, so that a confined git sees it.
        let mark = site.path("executed");
        site.script(
            "app/planted",
            &format!("PATH=/usr/bin:/bin\ntouch '{}' && exec cat\nexec sleep 60", mark.display()),
        );
        site.git(&["add", "planted"]);
        site.git(&["commit", "--quiet", "--message", "planted"]);
        site.create("main");
        let workspace = site.machine("app-main").join("workspace");
        let planted = workspace.join("planted").display().to_string();
        Self { site, workspace, planted }
    }

    fn executed(&self) -> bool {
        self.site.path("executed").exists()
    }

    fn git(&self, args: &[&str]) {
        let output = self.site.command("git").args(args).current_dir(&self.workspace).output().unwrap();
        drop(output);
    }

    fn config(&self, key: &str) {
        self.site.git_in(&self.workspace, &["config", key, &self.planted]);
    }

    /// Checks that plain git runs the planted program and that no command of agent-vm does.
    #[track_caller]
    fn never_runs_it(self, control: &[&str]) {
        self.git(control);
        assert!(self.executed(), "control: git {control:?} did not run the planted program");
        self.survives_status_and_destroy();
    }

    /// Fetches, with any result, and then restores the source repository: `destroy` would have nothing to save.
    #[track_caller]
    fn survives_fetch(&self) {
        let (repository, copy) = (self.site.repo().join(".git"), self.site.path("copy"));
        self.site.command("cp").arg("-a").args([&repository, &copy]).status().unwrap();
        let began = Instant::now();
        let done = self.site.run(&["fetch"]);
        assert!(matches!(done.code, Some(0 | 1)), "{done:?}");
        assert!(began.elapsed() < LONG, "fetch took {:?}", began.elapsed());
        assert!(!self.executed(), "the planted program ran");
        fs::remove_dir_all(&repository).unwrap();
        fs::rename(copy, repository).unwrap();
    }

    #[track_caller]
    fn survives_status_and_destroy(self) {
        drop(fs::remove_file(self.site.path("executed")));
        let outside = self.site.outside();
        let began = Instant::now();
        self.site.run(&["status"]).ok().prints("VM Status: app-main");
        assert!(began.elapsed() < LONG, "status took {:?}", began.elapsed());
        self.site.run(&["list"]).ok().prints("app-main");
        self.survives_fetch();
        let began = Instant::now();
        self.site.run(&["destroy"]).ok().says("removed app-main");
        assert!(began.elapsed() < LONG, "destroy took {:?}", began.elapsed());
        assert!(!self.executed(), "the planted program ran");
        assert!(self.site.names().is_empty());
        assert_eq!(self.site.outside(), outside);
        self.site.assert_nothing_left();
    }
}

#[test]
fn a_planted_fsmonitor_is_not_run() {
    let hostile = Hostile::new();
    hostile.config("core.fsmonitor");
    hostile.never_runs_it(&["status"]);
}

#[test]
fn planted_filters_are_not_run() {
    for filter in ["filter.x.clean", "filter.x.process"] {
        let hostile = Hostile::new();
        hostile.config(filter);
        hostile.config("filter.x.smudge");
        fs::write(hostile.workspace.join(".gitattributes"), "* filter=x\n").unwrap();
        // The length is unchanged, so that git has to read the contents.
        fs::write(hostile.workspace.join("README"), "HELLO\n").unwrap();
        hostile.never_runs_it(&["status"]);
    }
}

/// Git looks into a submodule with the submodule's configuration. This one is in a directory that looks like a repository.
#[test]
fn planted_filters_of_a_nested_repository_are_not_run() {
    let hostile = Hostile::new();
    let (x, sub) = (hostile.workspace.join("x"), hostile.workspace.join("x/sub"));
    fs::create_dir_all(x.join("refs")).unwrap();
    fs::create_dir(&sub).unwrap();
    fs::write(x.join("HEAD"), "data\n").unwrap();
    fs::write(x.join("refs/f"), "data\n").unwrap();
    hostile.site.git_in(&sub, &["init", "--quiet"]);
    hostile.site.git_in(&sub, &["config", "user.name", "Test"]);
    hostile.site.git_in(&sub, &["config", "user.email", "test@example.invalid"]);
    hostile.site.commit_in(&sub, "file", "x");
    hostile.git(&["add", "x"]);
    hostile.site.git_in(&sub, &["config", "filter.x.clean", &hostile.planted]);
    fs::write(sub.join(".gitattributes"), "* filter=x\n").unwrap();
    fs::write(sub.join("file"), "y").unwrap();
    hostile.never_runs_it(&["status"]);
}

#[test]
fn planted_hooks_are_not_run() {
    let hostile = Hostile::new();
    fs::create_dir_all(hostile.workspace.join(".git/hooks")).unwrap();
    for hook in ["post-index-change", "reference-transaction", "pre-push", "post-checkout"] {
        fs::copy(&hostile.planted, hostile.workspace.join(".git/hooks").join(hook)).unwrap();
    }
    hostile.never_runs_it(&["branch", "x"]);
}

#[test]
fn hooks_of_an_included_configuration_are_not_run() {
    let hostile = Hostile::new();
    fs::create_dir(hostile.workspace.join("hooks")).unwrap();
    fs::copy(&hostile.planted, hostile.workspace.join("hooks/reference-transaction")).unwrap();
    fs::write(
        hostile.workspace.join("included"),
        format!("[core]\n\thooksPath = {}/hooks\n", hostile.workspace.display()),
    )
    .unwrap();
    hostile.site.git_in(&hostile.workspace, &["config", "include.path", "../included"]);
    hostile.never_runs_it(&["branch", "x"]);
}

/// `.git` is a file or a link that leads to a repository with a hostile configuration.
#[test]
fn a_git_directory_elsewhere_runs_nothing() {
    for how in ["file", "link"] {
        let hostile = Hostile::new();
        hostile.config("core.fsmonitor");
        let real = hostile.workspace.join("real");
        fs::rename(hostile.workspace.join(".git"), &real).unwrap();
        let dot_git = hostile.workspace.join(".git");
        if how == "file" {
            fs::write(dot_git, format!("gitdir: {}\n", real.display())).unwrap();
        } else {
            symlink(&real, dot_git).unwrap();
        }
        hostile.never_runs_it(&["status"]);
    }
}

/// Git in the kept directory must not follow a link into a workspace, where the guest chooses what git runs.
#[test]
fn a_link_to_another_workspace_is_not_kept_as_a_repository() {
    let hostile = Hostile::new();
    let site = &hostile.site;
    let other = site.create("other");
    let theirs = site.machine(&other).join("workspace");
    site.git_in(&theirs, &["config", "core.fsmonitor", &theirs.join("planted").display().to_string()]);
    fs::remove_dir_all(hostile.workspace.join(".git")).unwrap();
    symlink(format!("../{other}/workspace"), hostile.workspace.join(".git")).unwrap();
    let refused = site.run(&["destroy", "app-main"]).exits(1).gives_one_error().says("on the machine's own disk");
    refused.says("agent-vm destroy app-main --keep workspace");
    site.run(&["destroy", "app-main", "--keep", "workspace"]).ok().says("removed app-main");
    let bundles = site.state().join(".bundles");
    let kept = fs::read_dir(&bundles).unwrap().next().unwrap().unwrap().path();
    assert!(kept.join(".git.of-the-guest").is_symlink() && !kept.join(".git").is_symlink());
    let looked = site.command("git").arg("status").current_dir(&kept).output().unwrap();
    assert!(!looked.status.success() && !hostile.executed(), "{looked:?}");
    // Control: git follows such a link into the other workspace.
    symlink(format!("../{other}/workspace"), bundles.join("kept.git")).unwrap();
    site.git_in(bundles.join("kept.git"), &["status"]);
    assert!(hostile.executed());
}

#[test]
fn a_planted_submodules_configuration_runs_nothing() {
    let hostile = Hostile::new();
    hostile.site.git_in(&hostile.workspace, &["clone", "--quiet", ".", "sub"]);
    hostile.site.git_in(hostile.workspace.join("sub"), &["config", "core.fsmonitor", &hostile.planted]);
    let head = hostile.site.git(&["rev-parse", "HEAD"]);
    hostile.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},sub")]);
    fs::write(hostile.workspace.join(".gitmodules"), "[submodule \"sub\"]\n\tpath = sub\n\turl = ./sub\n").unwrap();
    fs::write(hostile.workspace.join("sub/README"), "changed\n").unwrap();
    hostile.never_runs_it(&["status"]);
}

/// Files of the repository are links to a file of the user.
#[test]
fn links_to_the_users_files_are_not_followed() {
    for inside in [".git/HEAD", ".git/packed-refs", ".git/refs/heads/main", ".git/index", ".git/config", ".git/objects"]
    {
        let hostile = Hostile::new();
        let secret = hostile.site.path("home/secret");
        let path = hostile.workspace.join(inside);
        if inside == ".git/objects" {
            fs::remove_dir_all(&path).unwrap();
            symlink(hostile.site.repo().join(".git/objects"), &path).unwrap();
        } else {
            fs::write(&secret, format!("{}\n", "5".repeat(40))).unwrap();
            drop(fs::remove_file(&path));
            symlink(&secret, &path).unwrap();
        }
        let status = hostile.site.run(&["status"]).ok();
        assert!(!status.stdout.contains("555555"), "{inside}: {}", status.stdout);
        hostile.survives_status_and_destroy();
    }
}

#[test]
fn fifos_in_place_of_files_do_not_hang() {
    for inside in [
        ".git/HEAD",
        ".git/packed-refs",
        ".git/refs/heads/main",
        ".git/index",
        ".git/config",
        ".git/objects",
        ".git",
        "README",
    ] {
        let hostile = Hostile::new();
        let path = hostile.workspace.join(inside);
        if path.is_dir() {
            fs::rename(&path, hostile.site.machine("app-main").join("aside")).unwrap();
        } else {
            drop(fs::remove_file(&path));
        }
        let made = hostile.site.command("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        hostile.survives_status_and_destroy();
    }
}

/// Git opens `.gitignore` itself and would wait forever: agent-vm kills it.
#[test]
fn many_directories_of_references_are_not_read() {
    let hostile = Hostile::new();
    let refs = hostile.workspace.join(".git/refs/x");
    fs::create_dir(&refs).unwrap();
    for number in 0..=50_000 {
        fs::create_dir(refs.join(number.to_string())).unwrap();
    }
    let began = Instant::now();
    hostile.site.run(&["status"]).ok().prints("VM Status: app-main");
    assert!(began.elapsed() < LONG, "status took {:?}", began.elapsed());
    hostile.site.run(&["destroy"]).ok().says("more than 50000 directories of references").says("is kept whole in");
}

/// Git is started several times for each submodule.
#[test]
fn many_submodules_are_not_looked_at() {
    let hostile = Hostile::new();
    for number in 0..=1000 {
        let git_dir = hostile.workspace.join(format!(".git/modules/{number}"));
        fs::create_dir_all(git_dir.join("objects")).unwrap();
        fs::create_dir(git_dir.join("refs")).unwrap();
        fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }
    let commit = hostile.site.commit_in(&hostile.workspace, "work", "x");
    let began = Instant::now();
    let fetched = hostile.site.run(&["fetch"]).ok().says("1001 submodules; at most 1000 are looked at");
    assert!(fetched.stdout.contains(&commit[..10]), "{}", fetched.stdout);
    hostile.site.run(&["destroy"]).ok().says("1001 submodules").says("is kept whole in");
    let name = hostile.site.kept()[0].file_stem().unwrap().to_str().unwrap().to_owned();
    hostile.site.run(&["kept", "show", &name]).ok().prints("1001 submodules");
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}

#[test]
fn a_git_that_reads_a_fifo_is_killed() {
    let hostile = Hostile::new();
    assert!(hostile.site.command("mkfifo").arg(hostile.workspace.join(".gitignore")).status().unwrap().success());
    hostile.survives_status_and_destroy();
}

/// They are removed, and a configuration of agent-vm's takes the place of the guest's.
#[test]
fn fifos_in_place_of_what_git_follows_do_not_stop_destroy() {
    let hostile = Hostile::new();
    let git_dir = hostile.workspace.join("inner/.git");
    fs::create_dir_all(git_dir.join("objects")).unwrap();
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    for name in ["config", "commondir", "gitdir", "hooks"] {
        assert!(hostile.site.command("mkfifo").arg(git_dir.join(name)).status().unwrap().success());
    }
    hostile.site.run(&["destroy", "--keep", "workspace"]).ok().says("is kept whole in");
    let kept = hostile.site.kept().pop().unwrap().join("inner/.git");
    assert!(fs::read_to_string(kept.join("config")).unwrap().contains("hooksPath = /dev/null"));
    let mut names: Vec<_> = fs::read_dir(kept).unwrap().flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["HEAD", "config", "objects"]);
}

/// Git looks whether a directory of the work tree is a repository, and would wait for its files.
#[test]
fn a_fifo_of_a_repository_in_the_work_tree_does_not_hang() {
    for (dot_git, name) in [("inner/.git", "HEAD"), ("inner/.git", "commondir"), ("aside", "HEAD")] {
        let hostile = Hostile::new();
        let git_dir = hostile.workspace.join(dot_git);
        for dir in ["objects", "refs"] {
            fs::create_dir_all(git_dir.join(dir)).unwrap();
        }
        fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        if dot_git == "aside" {
            fs::create_dir(hostile.workspace.join("inner")).unwrap();
            fs::write(hostile.workspace.join("inner/.git"), "gitdir: ../aside\n").unwrap();
        }
        let began = Instant::now();
        drop(fs::remove_file(git_dir.join(name)));
        assert!(hostile.site.command("mkfifo").arg(git_dir.join(name)).status().unwrap().success());
        hostile.site.run(&["status"]).ok().prints("VM Status: app-main");
        hostile.site.run(&["destroy"]).ok().says("is kept whole in");
        assert!(began.elapsed() < LONG, "{dot_git}/{name}: {:?}", began.elapsed());
    }
}

#[test]
fn a_fifo_in_the_object_store_does_not_hang() {
    let hostile = Hostile::new();
    let info = hostile.workspace.join(".git/objects/info");
    fs::create_dir_all(&info).unwrap();
    assert!(hostile.site.command("mkfifo").arg(info.join("alternates")).status().unwrap().success());
    let began = Instant::now();
    hostile
        .site
        .run(&["destroy"])
        .ok()
        .says("(.git/objects/info/alternates); the workspace is kept whole in")
        .says("removed app-main");
    assert!(began.elapsed() < LONG, "destroy took {:?}", began.elapsed());
    hostile.site.assert_nothing_left();
}

/// Creates `others`, another repository of the user; returns its commit.
fn private_commit(site: &Site) -> String {
    let others = site.path("others");
    fs::create_dir(&others).unwrap();
    site.git_in(&others, &["init", "--quiet", "--initial-branch=main"]);
    for (key, value) in [("user.name", "Test"), ("user.email", "test@example.invalid")] {
        site.git_in(&others, &["config", key, value]);
    }
    site.commit_in(&others, "private", "x")
}

/// The guest adds the alternate after agent-vm has checked for alternates and before git reads them.
#[test]
fn an_alternate_that_is_added_late_is_not_read() {
    for sandbox in ["bwrap", "landlocked"] {
        let hostile = Hostile::new();
        let (site, workspace) = (&hostile.site, &hostile.workspace);
        if !site.with_sandbox(sandbox) {
            continue;
        }
        let commit = private_commit(site);
        fs::write(workspace.join(".git/refs/heads/stolen"), format!("{commit}\n")).unwrap();
        let (info, others) = (workspace.join(".git/objects/info"), site.path("others/.git/objects"));
        let plant = format!("mkdir -p '{0}'; echo '{1}' >'{0}/alternates'", info.display(), others.display());
        site.intercept("prlimit", "rev-list", &plant);
        let done = site.run(&["status", "--json", "--verbose"]).ok();
        assert!(done.has_sandbox(sandbox, "rev-list"), "{}", done.stderr);
        assert_eq!(done.json().pointer("/workspace/git"), Some(&serde_json::Value::Null), "{sandbox}");
        // Control: the alternate is in place, and git without confinement reads the commit.
        site.git_in(workspace, &["cat-file", "-e", "refs/heads/stolen"]);
    }
}

/// `destroy` must not copy a commit of another repository, named by its id, to where a later clone would find it.
#[test]
fn objects_of_other_repositories_are_not_kept() {
    for (store, id) in [("others/.git/objects", true), ("/dev/zero", false)] {
        let hostile = Hostile::new();
        let site = &hostile.site;
        let commit = private_commit(site);
        let objects = hostile.workspace.join(".git/objects");
        fs::create_dir_all(objects.join("info")).unwrap();
        if id {
            fs::write(objects.join("info/alternates"), format!("{}\n", site.path(store).display())).unwrap();
            fs::write(hostile.workspace.join(".git/refs/heads/stolen"), format!("{commit}\n")).unwrap();
            // Control: git in the workspace reads the commit.
            site.git_in(&hostile.workspace, &["cat-file", "-e", "refs/heads/stolen"]);
        } else {
            symlink(store, objects.join("info/alternates")).unwrap();
        }
        let status = site.run(&["status"]).ok();
        if id {
            status.prints("borrows objects from elsewhere");
            site.run(&["destroy"])
                .exits(1)
                .gives_one_error()
                .says("on the machine's own disk")
                .says("--keep workspace");
            site.run(&["destroy", "--keep", "workspace"]).ok();
        } else {
            site.run(&["destroy"]).ok().says("the workspace is kept whole in");
        }
        let kept = tree(&site.state().join(".bundles"));
        let object = Path::new(&commit[..2]).join(&commit[2..]);
        assert!(
            !kept.keys().any(|path| path.ends_with(&object) || path.extension().is_some_and(|kind| kind == "bundle"))
        );
    }
}

#[test]
fn garbage_in_the_repository_does_no_harm() {
    let garbage: [(&str, &[u8]); 9] = [
        (".git/HEAD", b"\xff\xfe\x00\n"),
        (".git/HEAD", b"ref: refs/heads/../../../../etc/passwd\n"),
        (".git/HEAD", b"ref: refs/heads/-rf\n"),
        (".git/HEAD", b"ref: refs/heads/x\x1b[2J\n"),
        (".git/refs/heads/main", b"not an object id\n"),
        (".git/packed-refs", b"# pack-refs with: x\nzzzz refs/heads/x\n^\n\0\0\0"),
        (".git/index", b"DIRC\0\0\0\x02\xff\xff\xff\xff"),
        (".git/objects/info/alternates", b"/etc\n/etc/ssh\n\"unclosed\n"),
        (".git/shallow", b"garbage\n"),
    ];
    for (inside, contents) in garbage {
        let hostile = Hostile::new();
        let path = hostile.workspace.join(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        let status = hostile.site.run(&["status"]).ok();
        assert!(!status.stdout.contains('\u{1b}'), "{:?}", status.stdout);
        hostile.survives_status_and_destroy();
    }
    for inside in [".git/HEAD", ".git/refs/heads/main", ".git/packed-refs", ".git/index"] {
        let hostile = Hostile::new();
        // A sparse file: a reader gets a terabyte of zeros.
        fs::File::create(hostile.workspace.join(inside)).unwrap().set_len(1 << 40).unwrap();
        hostile.survives_status_and_destroy();
    }
}

/// A repository that cannot be read is not deleted.
#[test]
fn a_repository_that_cannot_be_read_is_kept_whole() {
    let hostile = Hostile::new();
    let site = &hostile.site;
    let commit = site.commit_in(&hostile.workspace, "work", "x");
    let objects = hostile.workspace.join(".git/objects");
    fs::rename(&objects, hostile.workspace.join(".git/hidden")).unwrap();
    symlink("hidden", &objects).unwrap();
    hostile.config("core.fsmonitor");
    hostile.git(&["-c", "core.bare=false", "status"]);
    assert!(hostile.executed(), "control: git status did not run the planted program");
    fs::remove_file(site.path("executed")).unwrap();
    site.run(&["destroy"])
        .ok()
        .says("a bundle cannot hold everything in the workspace")
        .says("the workspace is kept whole in");
    let [bundle] = &fs::read_dir(site.state().join(".bundles")).unwrap().flatten().collect::<Vec<_>>()[..] else {
        panic!("{:?}", tree(&site.state().join(".bundles")))
    };
    // Git in the kept directory ignores the guest's configuration.
    site.git_in(bundle.path(), &["cat-file", "-e", &commit]);
    let (kept, empty) = (bundle.path().join(".git").display().to_string(), site.path("empty").display().to_string());
    fs::create_dir(&empty).unwrap();
    let status = site.command("git").args(["--git-dir", &kept, "--work-tree", &empty, "status"]).output().unwrap();
    assert!(status.status.success() && !hostile.executed(), "{status:?}");
    let kept = tree(&site.state().join(".bundles"));
    let object = Path::new(&commit[..2]).join(&commit[2..]);
    assert!(kept.keys().any(|path| path.ends_with(&object)), "{:?}", kept.keys());
}
