//! Shell completion, and the manual pages.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use rustix::fs::inotify;

use crate::support::{Site, skip, tree, which};

/// Prints what bash completes for a command line whose words are the arguments, after it has read the script.
const ASK_BASH: &str = r#"
eval "$(agent-vm completions bash)" || exit
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
# Outside a completion it fails.
compopt() { echo "compopt $*"; }
word=${!#}
[[ $word != '=' ]] || word=''
_agent_vm agent-vm "$word"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Returns the values for the last word.
fn complete(site: &Site, words: &[&str]) -> Vec<String> {
    let mut command = site.command("bash");
    command.args(["-c", ASK_BASH, "bash"]).args(words);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Returns a site whose shells find agent-vm.
fn site() -> Site {
    let site = Site::new();
    symlink(env!("CARGO_BIN_EXE_agent-vm"), site.path("bin/agent-vm")).unwrap();
    site
}

#[test]
fn bash_completes_verbs_flags_values_machines_and_branches() {
    let site = site();
    site.create("main");
    site.create("feature/x");
    site.git(&["branch", "other"]);
    site.git(&["clone", "-q", ".", "../elsewhere"]);
    site.run_in(site.path("elsewhere"), &["create", "--branch", "feature/y"]).ok();
    let [x, y] = ["app-feature-x-", "elsewhere-feature-y-"]
        .map(|start| site.names().into_iter().find(|name| name.starts_with(start)).unwrap());
    for (words, expected) in [
        (&["agent-vm", "sta"][..], &["start", "stats", "status"][..]),
        (&["agent-vm", "egress", "de"], &["deny"]),
        (&["agent-vm", "create", "--all-b"], &["--all-branches"]),
        (&["agent-vm", "create", "--egress", "o"], &["open"]),
        (&["agent-vm", "create", "--egress", "=", "o"], &["open"]),
        (&["agent-vm", "create", "--egress", "=", "o", "--all-b"], &["--all-branches"]),
        (&["agent-vm", "stop", ""], &[&x, "app-main", &y, "feature/x", "main"]),
        (&["agent-vm", "stop", "feature/"], &["feature/x"]),
        // The repository's branches, also without a machine.
        (&["agent-vm", "create", "--branch", ""], &["main", "other"]),
        (&["agent-vm", "create", "--branch", "=", "o"], &["other"]),
        (&["agent-vm", "create", "--config", ""], &["compopt -o default"]),
        (&["agent-vm", "create", "--config", "="], &["compopt -o default"]),
        (&["agent-vm", "exec", "main", "--", ""], &[]),
        (&["agent-vm", "stop", "none"], &[]),
    ] {
        assert_eq!(complete(&site, words), expected, "{words:?}");
    }
    assert_eq!(complete(&site, &["agent-vm", "create", "--egress", "="]), ["allowlist", "monitor", "none", "open"]);
}

#[test]
fn bash_completes_the_names_of_what_was_kept() {
    let site = site();
    site.create_with_work();
    site.run(&["destroy", "--yes"]).ok();
    site.create_with_work();
    let elsewhere = site.path("elsewhere").display().to_string();
    site.run(&["destroy", "--yes", "--keep-in", &elsewhere]).ok();
    let kept = site.run(&["kept", "--json"]).ok().json();
    let mut names: Vec<_> = kept.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 2);
    for verb in ["show", "restore", "prune"] {
        assert_eq!(complete(&site, &["agent-vm", "kept", verb, "app-"]), names, "{verb}");
    }
    assert!(complete(&site, &["agent-vm", "kept", "show", "other"]).is_empty());
}

#[test]
fn zsh_and_fish_can_read_their_scripts() {
    let site = site();
    let mut missing = Vec::new();
    for shell in ["zsh", "fish"] {
        let Some(program) = which(shell) else {
            missing.push(shell);
            continue;
        };
        site.write("script", site.run(&["completions", shell]).ok().stdout.as_bytes());
        let output = site.command(program).arg("-n").arg(site.path("script")).output().unwrap();
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    }
    if !missing.is_empty() {
        skip(&format!("not installed: {}", missing.join(", ")));
    }
}

#[test]
fn a_completion_runs_no_git_and_changes_nothing() {
    let site = site();
    site.create("main");
    // Left by a killed command; other commands remove it.
    fs::create_dir(site.state().join(".new-app-x")).unwrap();
    site.git(&["config", "core.fsmonitor", &format!("touch {}", site.path("ran").display())]);
    let git = which("git").unwrap();
    site.stand_in("git", &format!("touch '{}'\nexec '{}' \"$@\"", site.path("ran").display(), git.display()));
    let before = tree(&site.root());
    assert_eq!(complete(&site, &["agent-vm", "stop", "ma"]), ["main"]);
    assert_eq!(complete(&site, &["agent-vm", "create", "--branch", "ma"]), ["main"]);
    assert!(before == tree(&site.root()), "a completion changed a file");
    // Control: another command runs git and cleans up.
    site.run(&["create", "--branch", "new"]).ok();
    assert!(site.path("ran").exists() && !site.state().join(".new-app-x").exists());
}

#[test]
fn hostile_names_are_not_offered() {
    let site = site();
    site.create("main");
    for name in ["x$(touch${IFS}ran)", "x;reboot", "x`id`", "x\u{9b}31m", "x'y", "x&", "xgood"] {
        site.git(&["branch", name]);
    }
    assert_eq!(complete(&site, &["agent-vm", "create", "--branch", "x"]), ["xgood"]);
    site.set("app-main", "branch", "x$(id)".into());
    assert_eq!(complete(&site, &["agent-vm", "stop", "x"]), [""; 0]);
    // Control: the command line accepts such a name.
    site.run(&["stop", "x$(id)"]).ok();
}

#[test]
fn a_completion_is_silent_about_every_error() {
    let site = site();
    let silent = |words: &[&str], state: &str| {
        let mut command = site.agent_vm(&["complete", "--"]);
        let output = command.args(words).env("AGENT_VM_STATE_DIR", state).stdin(Stdio::null()).output().unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{words:?} {state:?}: {output:?}");
    };
    site.write("file", "");
    let file = site.path("file");
    for state in ["/nowhere", "a,b", file.to_str().unwrap()] {
        silent(&["agent-vm", "stop", "x"], state);
    }
    for words in [&[][..], &["agent-vm", "nothing", "x"], &["agent-vm", "stop", "x", "y", "z"]] {
        silent(words, site.state().to_str().unwrap());
    }
    // Settings that cannot be read, and a repository that is none.
    site.create("main");
    site.write("data/agent-vms/app-main/config.json", "{");
    site.write("app/.git/HEAD", [0; 9]);
    assert_eq!(complete(&site, &["agent-vm", "stop", ""]), ["app-main"]);
    assert_eq!(complete(&site, &["agent-vm", "create", "--branch", ""]), [""; 0]);
}

#[test]
fn of_a_thousand_machines_a_bounded_number_of_settings_is_opened() {
    let site = site();
    let settings = site.machine(&site.create("main")).join("config.json");
    let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    for number in 0..1_000 {
        let machine = site.machine(&format!("app-b{number}"));
        fs::create_dir(&machine).unwrap();
        let file = machine.join("config.json");
        fs::copy(&settings, &file).unwrap();
        if inotify::add_watch(&events, &file, inotify::WatchFlags::OPEN).is_err() {
            return skip("this user may not watch 1,000 files");
        }
    }
    let opened = || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&events, &mut buffer);
        std::iter::from_fn(|| reader.next().ok().map(|_| ())).count()
    };
    assert_eq!(complete(&site, &["agent-vm", "stop", "app-b"]).len(), 1_000);
    let seen = opened();
    assert!((1..=128).contains(&seen), "{seen} files were opened");
    // Control: `list` opens each.
    site.run(&["list"]).ok();
    assert!(opened() >= 1_000);
    // The names need no settings.
    complete(&site, &["agent-vm", "sto"]);
    assert_eq!(opened(), 0);
}

#[test]
fn manual_pages_are_written_and_read_by_man() {
    let site = site();
    fs::create_dir(site.path("pages")).unwrap();
    let pages = site.path("pages");
    site.run(&["man", pages.to_str().unwrap()]).ok();
    // Twice is once.
    let first = tree(&pages);
    site.run(&["man", pages.to_str().unwrap()]).ok();
    assert!(first == tree(&pages) && first.len() > 25, "{}", first.len());
    site.run(&["man", site.path("none").to_str().unwrap()]).exits(1).gives_one_error();
    let Some(groff) = which("groff") else { return skip("no groff to read the pages with") };
    for page in first.keys().filter(|path| path.is_file()) {
        let output = site
            .command(&groff)
            .env("PATH", std::env::var_os("PATH").unwrap())
            .args(["-man", "-Tascii", "-P-cbou", "-ww"])
            .arg(page)
            .output()
            .unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
        assert!(String::from_utf8_lossy(&output.stdout).contains("EXIT STATUS"));
    }
}
