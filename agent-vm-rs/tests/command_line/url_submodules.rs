//! Submodules of `create --from URL`: which are fetched, from where, and with whose rights.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::create_from::{remote, source};
use crate::submodules::with_submodules;
use crate::support::Site;

/// Sets the user of commits in a repository of a machine.
fn user(site: &Site, dir: &Path) {
    site.git_in(dir, &["config", "user.name", "Test"]);
    site.git_in(dir, &["config", "user.email", "test@example.invalid"]);
}

#[test]
fn submodules_of_a_url_become_whole_workspaces() {
    let site = Site::new();
    with_submodules(&site);
    let url = remote(&site);
    let create = |branch: &str| site.run_in(site.root(), &["create", "--from", &url, "--branch", branch]);
    create("main").ok().does_not_say("stay empty");
    let workspace = site.machine("app-main").join("workspace");
    let inside = workspace.join("libs/the sub");
    assert_eq!(site.read(inside.join("file")), "sub");
    assert_eq!(site.read(inside.join("deep/file")), "deep");
    for dir in [&workspace, &inside, &inside.join("deep")] {
        assert_eq!(site.git_in(dir, &["status", "--porcelain"]), "");
    }
    let origin = |dir: &Path| site.git_in(dir, &["config", "remote.origin.url"]);
    assert_eq!(origin(&inside), url.replace("/app", "/sub.origin"));
    assert_eq!(origin(&inside.join("deep")), url.replace("/app", "/deep.origin"));
    // New commits of submodules come out, and nothing else.
    let run = |args: &[&str]| site.run_in(site.root(), args);
    run(&["fetch", "app-main"]).ok().prints("0 new commits");
    user(&site, &inside.join("deep"));
    let work = site.commit_in(inside.join("deep"), "work", "x");
    run(&["fetch", "app-main"]).ok();
    let source = source(&site, "app-main");
    let name = "refs/agent-vm/app-main/submodules/libs/the-sub/deep/detached";
    assert_eq!(site.git_in(&source, &["rev-parse", name]), work);
    assert_eq!(site.git_in(&source, &["for-each-ref", "refs/agent-vm/app-main/submodules"]).lines().count(), 1);
    // A new commit of a submodule that no branch of it has.
    let sub = site.path("sub.origin");
    site.git_in(&sub, &["checkout", "--quiet", "--detach"]);
    let newer = site.commit_in(&sub, "newer", "x");
    site.git_in(&sub, &["checkout", "--quiet", "main"]);
    site.git(&["update-index", "--cacheinfo", &format!("160000,{newer},libs/the sub")]);
    site.git(&["commit", "--quiet", "--message", "newer"]);
    create("second").ok().does_not_say("stay empty");
    let second = site.machine("app-second").join("workspace/libs/the sub");
    assert_eq!(site.git_in(&second, &["rev-parse", "HEAD"]), newer);
    assert_eq!(site.read(second.join("deep/file")), "deep");
    // A machine that is created in the bare repository has them, too.
    site.run_in(&source, &["create", "--branch", "third"]).ok().does_not_say("stay");
    assert_eq!(site.read(site.machine("app-third").join("workspace/libs/the sub/newer")), "x");
    for branch in ["second", "third"] {
        run(&["destroy", &format!("app-{branch}"), "--yes"]).ok();
    }
    assert!(site.kept().is_empty());
    run(&["destroy", "app-main", "--yes"]).ok();
    assert!(source.exists(), "it has the only copy of a commit");
}

#[test]
fn submodules_of_a_url_go_with_its_last_machine() {
    let site = Site::new();
    with_submodules(&site);
    let url = remote(&site);
    let create = || drop(site.run(&["create", "--from", &url]).ok());
    let destroy = || site.run(&["destroy", "app-main", "--yes"]).ok();
    create();
    let source = source(&site, "app-main");
    assert!(source.join("modules/libs/the sub/modules/deep/objects").is_dir());
    destroy().says("which had only what the remote has");
    assert!(!source.exists());
    // The user made something there.
    create();
    let deep = source.join("modules/libs/the sub/modules/deep");
    user(&site, &deep);
    let own = site.git_in(&deep, &["commit-tree", "-m", "own", &site.git_in(&deep, &["write-tree"])]);
    site.git_in(&deep, &["update-ref", "refs/heads/own", &own]);
    destroy();
    assert!(source.exists());
}

#[test]
fn what_a_killed_fetch_of_a_submodule_left_is_removed() {
    let site = Site::new();
    with_submodules(&site);
    let url = remote(&site);
    site.run(&["create", "--from", &url]).ok();
    let source = source(&site, "app-main");
    let ago = |seconds| std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    let leave = |path: PathBuf, seconds| fs::File::create(path).unwrap().set_modified(ago(seconds)).unwrap();
    leave(source.join("modules/libs/the sub/refs/remotes/origin/main.lock"), 20);
    let newer = site.commit_in(site.path("sub.origin"), "newer", "x");
    site.git(&["update-index", "--cacheinfo", &format!("160000,{newer},libs/the sub")]);
    site.git(&["commit", "--quiet", "--message", "newer"]);
    let create = |branch: &str| site.run(&["create", "--from", &url, "--branch", branch]).ok();
    // Control: no command of agent-vm was killed.
    create("blocked").says("1 submodule stays").says("main.lock");
    leave(source.parent().unwrap().join("fetching"), 30);
    create("free").does_not_say("stay");
}

/// The URLs lead to this host, to its network, to programs, and out of the owner's directory.
#[test]
fn hostile_urls_of_submodules_are_not_asked() {
    let site = Site::new();
    let url = remote(&site);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let ran = site.path("ran");
    let head = site.git(&["rev-parse", "HEAD"]);
    let urls = [
        format!("{}", site.repo().display()),
        format!("file://{}", site.repo().display()),
        format!("ext::touch {}", ran.display()),
        format!("https://127.0.0.1:{port}/x/y"),
        format!("https://localhost:{port}/x/y"),
        format!("https://[::1]:{port}/x/y"),
        format!("https://2130706433:{port}/x/y"),
        format!("https://host.invalid:{port}/x/y"),
        format!("http://127.0.0.1:{port}/x/y"),
        format!("git://127.0.0.1:{port}/x/y"),
        format!("ssh://me@host.invalid:{port}{}", site.repo().display()),
        format!("ssh://root@host.invalid{}", site.repo().display()),
        "ssh://me@host.invalid/elsewhere/private".to_owned(),
        format!("ssh://-oProxyCommand=touch {}/x", ran.display()),
        format!("{}/../app", "../../../../../../../../.."),
    ];
    let mut gitmodules = String::new();
    for (number, url) in urls.iter().enumerate() {
        gitmodules += &format!(
            "[submodule \"n{number}\"]\n\tpath = p{number}\n\turl = \"{url}\"\n\tupdate = !touch {}\n",
            ran.display()
        );
        site.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},p{number}")]);
    }
    site.write("app/.gitmodules", gitmodules);
    site.git(&["add", ".gitmodules"]);
    site.git(&["commit", "--quiet", "--message", "hostile"]);
    let log = site.path("ssh.log");
    site.stand_in(
        "ssh",
        &format!("echo \"$*\" >> '{}'\nfor last; do :; done\nexec sh -c \"git ${{last#git-}}\"", log.display()),
    );
    let mut before = site.outside();
    before.retain(|path, _| !path.starts_with(site.path("data")));
    let done = site.run(&["create", "--from", &url]).ok().says(&format!("{} submodules stay empty: p0 (", urls.len()));
    done.says("git clone --recurse-submodules").does_not_say("the submodule ");
    let workspace = site.machine("app-main").join("workspace");
    for number in 0..urls.len() {
        assert_eq!(fs::read_dir(workspace.join(format!("p{number}"))).unwrap().count(), 0);
    }
    assert!(listener.accept().is_err() && !ran.exists());
    let asked = site.read(&log);
    assert!(!asked.is_empty() && asked.lines().all(|line| line.contains("me@host.invalid git-upload-pack")), "{asked}");
    assert!(!asked.contains("elsewhere"), "{asked}");
    let mut after = site.outside();
    after.retain(|path, _| !path.starts_with(site.path("data")) && *path != log);
    assert_eq!(after, before);
    // Control: a submodule beside the source.
    let beside = url.replace("/app", "/beside");
    site.git(&["clone", "--quiet", "--bare", ".", "../beside"]);
    site.write("app/.gitmodules", format!("[submodule \"n0\"]\n\tpath = p0\n\turl = {beside}\n"));
    site.git(&["commit", "--quiet", "--message", "good", ".gitmodules"]);
    site.run(&["create", "--from", &url, "--branch", "good"]).ok().does_not_say("p0 (");
    assert!(site.machine("app-good").join("workspace/p0/.git").exists());
}
