use std::fs;
use std::path::Path;

use super::view::{Place, SHORT, View, program};
use crate::confine::{self, Confinement};
use crate::host::process::Invocation;

fn run(dir: &Path, args: &[&str]) -> String {
    let git = Invocation::new("git").args(["-c", "user.name=me", "-c", "user.email=me@example.org"]);
    git.args(args).cwd(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").read().unwrap()
}

fn repository(dir: &Path) -> String {
    fs::create_dir(dir).unwrap();
    run(dir, &["init", "--quiet", "--template="]);
    run(dir, &["commit", "--quiet", "--allow-empty", "--message", &dir.display().to_string()]);
    run(dir, &["rev-parse", "HEAD"])
}

/// The guest redirects its repository to another one after our check and before git reads it: with and without
/// namespaces.
#[test]
fn another_repository_is_not_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (workspace, other) = (dir.path().join("workspace"), dir.path().join("other"));
    let own = repository(&workspace);
    let foreign = repository(&other);
    let git = program().unwrap();
    let sandbox = confine::choose_for_reading(&git).sandbox;
    for sandbox in [None, sandbox] {
        let info = workspace.join(".git/objects/info");
        drop(fs::remove_dir_all(&info));
        let confinement = Confinement { sandbox, landlock: None };
        let place = Place { workspace: &workspace, git_dir: Path::new(".git"), work_tree: Some(Path::new("")) };
        let view = View::open_behind(confinement, git.clone(), &place, None, dir.path(), SHORT).unwrap();
        fs::create_dir_all(&info).unwrap();
        fs::write(info.join("alternates"), format!("{}/.git/objects\n", other.display())).unwrap();
        let reads = |commit: &String| view.ask(&view.git(None).args(["cat-file", "-e", commit])).is_ok();
        assert_eq!([reads(&own), reads(&foreign)], [true, false]);
        // Control: git in the workspace reads both.
        run(&workspace, &["cat-file", "-e", &foreign]);
    }
}
