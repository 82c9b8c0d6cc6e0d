//! Git LFS files that were edited in a machine and not committed come back as pointers, with their contents.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::large_files::{CONTENTS, OTHERS, pointer, source, workspace};

/// Git LFS stores the contents when files are staged; these are not.
#[test]
fn edited_files_are_applied_with_their_contents() {
    let site = source();
    site.commit("program.bin", &pointer(CONTENTS, 9));
    site.create("main");
    let tree = workspace(&site);
    for name in ["a.bin", "new.bin", "program.bin"] {
        fs::write(tree.join(name), "others\n").unwrap();
    }
    fs::set_permissions(tree.join("program.bin"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("pointer.bin"), pointer(OTHERS, 7)).unwrap();
    // Controls: not for Git LFS.
    fs::write(tree.join("empty.bin"), "").unwrap();
    fs::write(tree.join("new.txt"), "others\n").unwrap();
    site.run(&["fetch"]).ok().does_not_say("not fetched");
    let there = site.path(format!("app/.git/lfs/objects/{}/{}/{OTHERS}", &OTHERS[..2], &OTHERS[2..4]));
    assert_eq!(fs::read_to_string(there).unwrap(), "others\n");
    let uncommitted = "refs/agent-vm/app-main/uncommitted";
    let shown = |name: &str| site.git(&["show", &format!("{uncommitted}:{name}")]);
    for name in ["a.bin", "new.bin", "program.bin", "pointer.bin"] {
        assert_eq!(format!("{}\n", shown(name)), pointer(OTHERS, 7), "{name}");
    }
    assert_eq!([shown("empty.bin"), shown("new.txt")], ["", "others"]);
    assert!(site.git(&["ls-tree", uncommitted, "program.bin"]).starts_with("100755"));
    // The same changes are the same commit.
    site.run(&["fetch"]).ok().prints("app-main has nothing new");

    // The user's Git LFS.
    let script = r#"read -r line
    case $1,$line in
    *,) exit 0 ;;
    smudge,*|clean,version*) text="$line"; while read -r line; do text="$text
$line"; done ;;
    clean,*) printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 7\n' OID; exit ;;
    esac
    if [ "$1" = clean ]; then printf '%s\n' "$text"; exit; fi
    case $text in *OID*) printf 'others\n' ;; *) printf 'contents\n' ;; esac"#;
    site.stand_in("git-lfs", &script.replace("OID", OTHERS));
    for (key, value) in [("smudge", "git-lfs smudge -- %f"), ("clean", "git-lfs clean -- %f"), ("required", "true")] {
        site.git(&["config", "--global", &format!("filter.lfs.{key}"), value]);
    }
    site.run(&["apply", "--uncommitted"]).ok();
    for name in ["a.bin", "new.bin", "program.bin", "new.txt"] {
        assert_eq!(fs::read_to_string(site.repo().join(name)).unwrap(), "others\n", "{name}");
    }
    assert_eq!(format!("{}\n", site.git(&["show", ":a.bin"])), pointer(OTHERS, 7));
    assert_eq!(site.git(&["diff", "--name-only"]), "");
    // What is kept of a destroyed machine needs no store.
    site.run(&["destroy", "--yes"]).ok().says(".bundle");
    site.run(&["kept", "restore", "app-main"]).ok();
    let names = site.git(&["for-each-ref", "--format=%(refname)", "refs/agent-vm/app-main/kept"]);
    let kept = names.lines().find(|name| name.ends_with("/uncommitted")).unwrap();
    assert_eq!(site.git(&["show", &format!("{kept}:a.bin")]), "others");
}

/// Edited files count for the limit like others.
#[test]
fn edited_files_can_be_too_large() {
    let site = source();
    site.create("main");
    fs::write(workspace(&site).join("a.bin"), "x".repeat(3 << 20)).unwrap();
    let done = site.run(&["fetch", "--max-size", "2"]).ok();
    done.says("not fetched from app-main: the contents of 1 Git LFS file (3.00 MiB)").says("--max-size 5");
    site.run(&["fetch", "--max-size", "4"]).ok().does_not_say("not fetched");
}
