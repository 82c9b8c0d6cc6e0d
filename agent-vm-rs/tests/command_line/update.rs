//! `update` moves the inputs of a NixOS guest, and the next start builds the guest again.

use std::fs;

use crate::stand_ins::{ENDS, install, own_ports, recorded};
use crate::support::Site;

/// Installs a Nix that builds a guest and writes a lock file. The locked nixpkgs is the revision in the file `newest`
/// if the call overrides that input, and the toolkit's own otherwise.
fn install_nix(site: &Site) {
    install(site, ENDS);
    let (record, root) = (site.path("record"), site.root());
    site.stand_in(
        "nix",
        &format!(
            "echo \"$*\" >>'{record}/nix'\n\
             for word; do case $word in path:*) flake=${{word#path:}}; flake=${{flake%#*}};; esac; done\n\
             nixpkgs=1111111111aa\n\
             case $* in\n\
             *--override-input*/nixos-26.05*) nixpkgs=$(cat '{root}/newest');;\n\
             *--override-input*) nixpkgs=${{*##*nixpkgs/}};;\n\
             esac\n\
             original='\"type\": \"github\", \"owner\": \"NixOS\", \"repo\": \"nixpkgs\"'\n\
             locks() {{ printf '%s' '{{ \"root\": \"r\", \"version\": 7, \"nodes\": {{ \"r\": {{ \"inputs\": {{ \"toolkit\": \"t\" }} }},\
              \"t\": {{ \"inputs\": {{ \"nixpkgs\": \"n\" }}, \"locked\": {{ \"type\": \"path\", \"path\": \"/t\", \"narHash\": \"sha256-x\" }} }},\
              \"n\": {{ \"locked\": {{ '\"$original\"', \"rev\": \"'\"$nixpkgs\"'\", \"lastModified\": 1786711500 }},\
              \"original\": {{ '\"$original\"', \"ref\": \"nixos-26.05\" }} }} }} }}' >\"$flake/flake.lock\"; }}\n\
             case $* in\n\
             *' flake lock '*) [ ! -e '{root}/no-network' ] || {{ echo 'error: no network' >&2; exit 1; }}; locks;;\n\
             *' build '*)\n\
             [ -e \"$flake/flake.lock\" ] || locks\n\
             set -- x '{root}/built'; . '{root}/make-package'; ln -sfn '{root}/built' \"$flake/guest\";;\n\
             esac",
            record = record.display(),
            root = root.display(),
        ),
    );
}

fn site() -> Site {
    let site = Site::new();
    install_nix(&site);
    site.write("newest", "2222222222bb");
    site.run(&["create", "--guest", "nixos"]).ok();
    own_ports(&site, "app-main");
    site
}

fn calls(site: &Site, of: &str) -> usize {
    recorded(site, "nix").iter().filter(|call| call.contains(of)).count()
}

#[test]
fn a_guest_is_rebuilt_after_its_nixpkgs_moved() {
    let site = site();
    let start = || site.run(&["start"]).exits(1).says("app-main did not start completely");
    start();
    start();
    assert_eq!(calls(&site, " build "), 1, "nothing has changed");

    let moved = "toolkit/nixpkgs: 1111111111 (2026-08-14) → 2222222222 (2026-08-14)";
    site.run(&["update"]).ok().says(moved).says("agent-vm start app-main");
    assert_eq!(calls(&site, " build "), 1, "the next start builds");
    start();
    start();
    assert_eq!(calls(&site, " build "), 2);
    let lock = site.machine("app-main").join("flake/flake.lock");
    assert!(fs::read_to_string(&lock).unwrap().contains("2222222222bb"), "the build keeps the updated revision");

    site.run(&["update"]).ok().says("everything is up to date").says("toolkit/nixpkgs: 2222222222").does_not_say("→");
    start();
    assert_eq!(calls(&site, " build "), 2);

    // The same with `--json`, after another move.
    site.write("newest", "3333333333cc");
    let json = site.run(&["--json", "update", "app-main"]).ok().json();
    assert_eq!(json["moved"][0]["input"], "toolkit/nixpkgs");
    assert_eq!((&json["moved"][0]["from"], &json["moved"][0]["to"]), (&"2222222222bb".into(), &"3333333333cc".into()));

    // A lock file that was changed by another program also causes a build.
    start();
    assert_eq!(calls(&site, " build "), 3);
    fs::write(&lock, fs::read_to_string(&lock).unwrap() + "\n").unwrap();
    start();
    assert_eq!(calls(&site, " build "), 4);
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let site = site();
    site.run(&["start"]).exits(1);
    let flake = site.machine("app-main").join("flake");
    let lock = fs::read_to_string(flake.join("flake.lock")).unwrap();
    site.write("no-network", "");
    site.run(&["update"]).exits(1).says("failed to lock the guest's flake").says("no network");
    assert_eq!(fs::read_to_string(flake.join("flake.lock")).unwrap(), lock);
    assert!(!flake.join("nixpkgs.json").exists() && !site.machine("app-main").join(".tmp-update").exists());
    site.run(&["start"]).exits(1);
    assert_eq!(calls(&site, " build "), 1);
}

/// The toolkit names the nixpkgs that it was tested with; a revision pinned for another toolkit may not fit.
#[test]
fn a_changed_toolkit_uses_its_own_nixpkgs() {
    let site = site();
    site.run(&["update"]).ok().says("toolkit/nixpkgs: nothing → 2222222222");
    site.run(&["start"]).exits(1);
    site.write("toolkit/flake.nix", "{ outputs = _: { changed = true; }; }\n");
    site.run(&["start"]).exits(1).says("the toolkit changed").says("agent-vm update app-main");
    let lock = fs::read_to_string(site.machine("app-main").join("flake/flake.lock")).unwrap();
    assert!(lock.contains("1111111111aa"), "{lock}");
    site.run(&["start"]).exits(1).does_not_say("the toolkit changed");
}

#[test]
fn the_debian_guest_has_no_inputs_to_update() {
    let site = Site::new();
    install(&site, ENDS);
    crate::stand_ins::create(&site, "main");
    site.run(&["update"]).ok().says("no guest yet");
    site.run(&["start"]).exits(1);
    site.run(&["update"]).ok().says("has no lock").says("agent-vm image update");
    assert_eq!(recorded(&site, "nix").len(), 1);
}
