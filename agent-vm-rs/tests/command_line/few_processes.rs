//! How many git processes the commands that show fetched commits start: they may take 50 ms more than git's own, and each
//! call of git takes several of them.

use crate::support::{Site, which};

/// Runs a command, and returns the first words of its git calls.
fn calls(site: &Site, args: &[&str]) -> Vec<String> {
    let log = site.path("calls");
    let git = which("git").unwrap();
    let skip =
        "for word; do\ncase $skip$word in\nx*) skip= ;;\n-c | --git-dir | -C) skip=x ;;\n*) break ;;\nesac\ndone";
    site.write("calls", "");
    site.stand_in("git", &format!("{skip}\necho \"$word\" >> '{}'\nexec '{}' \"$@\"", log.display(), git.display()));
    site.run(args).ok();
    site.restore("git");
    site.read(&log).lines().map(str::to_owned).collect()
}

#[test]
fn log_and_diff_start_few_processes() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.run(&["fetch"]).ok();
    assert_eq!(calls(&site, &["log"]), ["for-each-ref", "log"]);
    assert_eq!(calls(&site, &["diff"]), ["for-each-ref", "rev-parse", "diff"]);
    std::fs::write(workspace.join("uncommitted"), "x").unwrap();
    site.run(&["fetch"]).ok();
    assert_eq!(calls(&site, &["diff"]), ["for-each-ref", "rev-parse", "diff"]);
    site.run(&["diff", "--stat"]).ok().prints("uncommitted");
    // A configuration with quotes is read by git.
    site.git(&["config", "remote.origin.url", "a#b"]);
    assert_eq!(calls(&site, &["log"]), ["config", "for-each-ref", "log"]);
}

/// One call of git answers what `diff` asks about any reference.
#[test]
fn diff_of_any_reference_is_that_of_git() {
    let site = Site::new();
    let (workspace, work) = site.create_with_work();
    let main = site.git(&["rev-parse", "main"]);
    site.git_in(&workspace, &["tag", "-a", "-m", "v1", "v1"]);
    site.git_in(&workspace, &["checkout", "--quiet", "--orphan", "alone"]);
    let alone = site.commit_in(&workspace, "alone", "x");
    site.run(&["fetch"]).ok();
    for (name, base, commit) in [("main", Some(&main), &work), ("tags/v1", Some(&main), &work), ("alone", None, &alone)]
    {
        let all = calls(&site, &["diff", "--ref", name]);
        assert_eq!(all, ["for-each-ref", "rev-parse", "diff"], "{name}");
        let said = site.run(&["diff", "--ref", name, "--json"]).ok().json();
        assert_eq!((said["base"].as_str(), said["commit"].as_str()), (base.map(|id| &**id), Some(&**commit)), "{name}");
    }
    site.run(&["diff", "--ref", "none"])
        .exits(1)
        .gives_one_error()
        .says("nothing was fetched from the machine as none");
    // Without a branch of the same name, HEAD counts; there may be none.
    site.git(&["checkout", "--quiet", "-b", "other"]);
    site.git(&["branch", "--quiet", "-D", "main"]);
    assert_eq!(site.run(&["diff", "app-main", "--json"]).ok().json()["base"], main.as_str());
    site.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
    assert!(site.run(&["diff", "app-main", "--json"]).ok().json()["base"].is_null());
}
