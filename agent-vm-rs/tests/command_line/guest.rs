//! From settings to a guest: the rendered flake, the calls of Nix and of the image builder, and when they are skipped.

use std::fs;

use serde_json::json;

use crate::stand_ins::{ENDS, change_runner, create, install, own_ports, recorded};
use crate::support::Site;

/// Makes a site whose guests end at once, so that each start ends soon; the tests check what happens before.
fn site() -> Site {
    let site = Site::new();
    install(&site, ENDS);
    site
}

#[test]
fn the_rendered_flake_parses_and_nix_evaluates_it() {
    let site = site();
    for branch in ["main", "it's/${HOME}/\"$(id)\"/''x'"] {
        let name = create(&site, branch);
        site.run(&["start", branch]).exits(1);
        let flake = site.machine(&name).join("flake");
        let text = fs::read_to_string(flake.join("flake.nix")).unwrap();
        let parsed = rnix::Root::parse(&text);
        assert!(parsed.errors().is_empty(), "{:?}\n{text}", parsed.errors());
        let call = recorded(&site, "nix").pop().unwrap();
        assert!(
            call.contains("eval --json") && call.ends_with(&format!("path:{}#manifest", flake.display())),
            "{call}"
        );
    }
    // agent-vm uses a Nix store of its own, not the user's.
    let store = format!("NIX_STORE_DIR={}/agent-vm/nix/store", site.path("cache").display());
    assert!(recorded(&site, "nix.env").contains(&store));
}

#[test]
fn one_image_is_built_for_all_machines() {
    let site = site();
    create(&site, "main");
    create(&site, "other");
    site.run(&["start"]).exits(1).says("building the guest image");
    site.run(&["start", "other"]).exits(1).does_not_say("building the guest image");
    let built = recorded(&site, "builder");
    assert_eq!(built.len(), 1, "{built:?}");
    assert!(built[0].contains("/cache/agent-vm/guests/debian-"), "{built:?}");
    let spec: serde_json::Value = serde_json::from_str(&site.read("record/spec")).unwrap();
    assert_eq!(spec["image"]["spec"]["for"], "the builder");
}

#[test]
fn nix_runs_only_for_a_changed_guest() {
    let site = site();
    create(&site, "main");
    site.run(&["start"]).exits(1).says("  guest: ");
    site.stand_in("nix", "echo 'error: no nix today' >&2; exit 99");
    let unchanged = || site.run(&["start"]).exits(1).says("app-main did not start completely").does_not_say("nix");
    unchanged();
    // These settings are passed at run time and are not part of the guest.
    for (key, value) in [("memory", 1024), ("cores", 1), ("port", 18000), ("ssh_port", 12222)] {
        site.set("app-main", key, value.into());
        unchanged();
    }
    let changed = || site.run(&["start"]).exits(1).says("nix failed (exit status: 99)").says("error: no nix today");
    site.set("app-main", "packages", serde_json::json!(["make"]));
    changed();
    site.set("app-main", "packages", serde_json::json!([]));
    // The failed start has not recorded the old guest as current.
    changed();
    install(&site, ENDS);
    site.run(&["start"]).exits(1).says("  guest: ");
    site.stand_in("nix", "exit 99");
    unchanged();
    site.write("toolkit/flake.nix", "{ outputs = _: { changed = true; }; }\n");
    site.run(&["start"]).exits(1).says("nix failed");
}

#[test]
fn an_image_missing_from_the_cache_is_rebuilt() {
    let site = site();
    create(&site, "main");
    site.run(&["start"]).exits(1);
    fs::remove_dir_all(site.path("cache")).unwrap();
    site.run(&["start"]).exits(1).says("building the guest image").says("did not start completely");
    assert_eq!(recorded(&site, "builder").len(), 2);
}

#[test]
fn an_image_built_by_setup_is_used() {
    let site = site();
    create(&site, "main");
    site.run(&["start"]).exits(1).says("building the guest image");
    let guests = site.path("cache/agent-vm/guests");
    let names = || fs::read_dir(&guests).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let built = names().find(|name| name.starts_with("debian-")).unwrap();
    let prepared = built.replace("debian-", ".prepared-");
    // `scripts/prepare-image` leaves an image without the record of a finished build.
    fs::rename(guests.join(&built), guests.join(&prepared)).unwrap();
    fs::remove_file(guests.join(format!(".{built}.files.json"))).unwrap();
    for _ in 0..2 {
        site.run(&["start"])
            .exits(1)
            .says("app-main did not start completely")
            .does_not_say("building the guest image");
    }
    assert_eq!(recorded(&site, "builder").len(), 1);
    assert!(names().all(|name| name != prepared) && names().any(|name| name == built));
}

#[test]
fn a_failed_build_is_an_error_and_its_output_not_used() {
    let site = site();
    create(&site, "main");
    site.script("builder", "echo 'builder: mirror unreachable' >&2; mkdir -p \"$2/bin\"; exit 5");
    site.run(&["start"])
        .exits(1)
        .says("builder: mirror unreachable")
        .says("failed to build the guest image")
        .says("builder failed (exit status: 5)")
        .does_not_say("--unset packages");
    site.assert_nothing_left();
    // The builder may have refused the name of a package.
    site.set("app-main", "packages", json!(["nodejss", "jq"]));
    site.run(&["start"])
        .exits(1)
        .says("failed to build the guest image")
        .says("hint: app-main adds the packages nodejss, jq; to add none: agent-vm set app-main --unset packages\n");
    site.run(&["set", "app-main", "--unset", "packages"]).ok();
    site.run(&["status"]).ok().prints("Agent Service: Stopped");
    site.stand_in("nix", &format!("cat '{}'", site.path("from-nix.json").display()));
    site.script("builder", &format!("rm -rf \"$2\"; . '{}'", site.path("make-package").display()));
    site.run(&["start"]).exits(1).says("app-main did not start completely");
}

#[test]
fn the_manifest_from_nix_is_checked() {
    let site = site();
    create(&site, "main");
    let good: serde_json::Value = serde_json::from_str(&site.read("from-nix.json")).unwrap();
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let cases: [(&str, Change<'_>, &str); 5] = [
        ("newer", &|m| m["version"] = 2.into(), "version"),
        ("unknown field", &|m| m["more"] = 1.into(), "more"),
        ("no image", &|m| m["image"] = serde_json::Value::Null, "names no image"),
        ("hash that leaves the cache", &|m| m["image"]["hash"] = "../../../../../../tmp/x".into(), "hash"),
        ("builder on PATH", &|m| m["image"]["builder"] = "sh".into(), "not an absolute path"),
    ];
    for (name, change, why) in cases {
        let mut wrong = good.clone();
        change(&mut wrong);
        site.write("from-nix.json", wrong.to_string());
        site.run(&["start"]).exits(1).gives_one_error().says(why);
        assert!(recorded(&site, "builder").is_empty(), "{name} was built");
    }
    for output in ["", "null", "warning: x"] {
        site.write("from-nix.json", output);
        site.run(&["start"]).exits(1).gives_one_error();
    }
    site.write("from-nix.json", good.to_string());
    site.run(&["start"]).exits(1).says("did not start completely");
}

/// Nix alone builds the `nixos` guest, with a link in the machine's directory as its garbage collector root.
#[test]
fn a_nixos_guest_is_built_by_nix() {
    let site = site();
    site.run(&["create", "--guest", "nixos"]).ok();
    own_ports(&site, "app-main");
    let (record, root) = (site.path("record"), site.root());
    site.stand_in(
        "nix",
        &format!(
            "echo \"$*\" >>'{0}/nix'\n\
             while [ \"$1\" != --out-link ]; do shift; done\n\
             set -- x '{1}/built'; . '{1}/make-package'; ln -sfn '{1}/built' '{2}'",
            record.display(),
            root.display(),
            site.machine("app-main").join("flake/guest").display()
        ),
    );
    site.run(&["start"]).exits(1).says("app-main did not start completely").says("kernel: panic");
    let flake = site.machine("app-main").join("flake");
    let calls = recorded(&site, "nix");
    assert_eq!(calls.len(), 1);
    let expected = format!("--out-link {0}/guest path:{0}#guest", flake.display());
    assert!(calls[0].contains(" build ") && calls[0].ends_with(&expected), "{calls:?}");
    assert!(recorded(&site, "builder").is_empty() && recorded(&site, "nix.env").is_empty());
    assert!(fs::read_to_string(flake.join("flake.nix")).unwrap().contains("mkAgentVm"));

    site.stand_in("nix", "echo 'error: attribute missing' >&2; exit 1");
    change_runner(&site, ENDS);
    site.run(&["start"]).exits(1).says("did not start completely").does_not_say("nix failed");
    site.set("app-main", "packages", serde_json::json!(["hello"]));
    site.run(&["start"]).exits(1).says("failed to build the guest").says("error: attribute missing");
}

/// `nix_args` are passed to every call of Nix; arguments on the command line replace them for one command.
#[test]
fn nix_gets_the_users_arguments() {
    let site = site();
    let given = ["--nix-arg", "--override-input", "--nix-arg=toolkit/nixpkgs", "--nix-arg", "path:/my pkgs"];
    site.run(&[&["create"][..], &given].concat()).ok();
    own_ports(&site, "app-main");
    assert_eq!(
        site.settings("app-main")["nix_args"],
        serde_json::json!(["--override-input", "toolkit/nixpkgs", "path:/my pkgs"])
    );
    let ends_with = |words: &str| {
        let call = recorded(&site, "nix").pop().unwrap();
        assert!(call.ends_with(words), "{call}");
    };
    site.run(&["start"]).exits(1).says("did not start completely");
    ends_with("#manifest --override-input toolkit/nixpkgs path:/my pkgs");
    let calls = || recorded(&site, "nix").len();
    site.run(&["start"]).exits(1).says("did not start completely");
    assert_eq!(calls(), 1, "nothing has changed");
    site.run(&["start", "--nix-arg=--offline"]).exits(1).says("did not start completely");
    ends_with("#manifest --offline");
    site.run(&["start"]).exits(1).says("did not start completely");
    ends_with("path:/my pkgs");
    assert_eq!(calls(), 3, "other arguments may make another guest");
    site.write("settings.json", r#"{ "nix_args": ["--refresh"] }"#);
    let config = site.path("settings.json");
    site.run(&["create", "--branch", "b", "--config", config.to_str().unwrap()]).ok();
    assert_eq!(site.settings("app-b")["nix_args"], serde_json::json!(["--refresh"]));
    site.run(&["create", "--nix-arg"]).exits(2).says("--nix-arg");
}

#[test]
fn a_missing_toolkit_is_an_error() {
    let site = site();
    create(&site, "main");
    fs::remove_dir_all(site.path("toolkit")).unwrap();
    site.run(&["start"]).exits(1).gives_one_error().says("toolkit");
    site.assert_nothing_left();
}
