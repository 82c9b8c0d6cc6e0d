//! `agent-vm egress` on stopped machines: what it prints, stores and refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::stand_ins::manifest;
use crate::support::Site;

/// Gives a machine the guest package that its first start would build; the package defines the group @npm.
fn give_guest(site: &Site) {
    let share = site.machine("app-main").join("flake/guest/share/agent-vm");
    fs::create_dir_all(&share).unwrap();
    fs::write(share.join("manifest.json"), manifest(site).to_string()).unwrap();
}

/// Writes the log that the proxy would write for these attempts.
fn log(site: &Site, attempts: &[serde_json::Value]) {
    let dir = site.machine("app-main").join("egress/log");
    fs::create_dir_all(&dir).unwrap();
    let lines: String = attempts.iter().map(|attempt| format!("{attempt}\n")).collect();
    fs::write(dir.join("egress.jsonl"), lines).unwrap();
}

#[test]
fn allow_and_deny_lists_are_printed_and_stored() {
    let site = Site::new();
    site.create("main");
    assert_eq!(site.run(&["egress", "list"]).ok().stdout, "app-main: egress allowlist\n");

    let listed = "app-main: egress allowlist\n  allow   a.test:8443\n  allow   *.b.test\n  allow   ::1\n";
    // A repeated entry and another spelling of it are stored once.
    for _ in 0..2 {
        let allow = ["egress", "allow", "A.test.:8443", "*.b.test", "[::1]"];
        assert_eq!(site.run(&allow).ok().stdout, listed);
    }
    assert_eq!(site.run(&["egress", "list", "app-main"]).ok().stdout, listed);

    let changed = "app-main: egress allowlist\n  allow   *.b.test\n  allow   ::1\n  deny    a.test:8443\n";
    assert_eq!(site.run(&["egress", "deny", "--branch", "main", "a.test:8443"]).ok().stdout, changed);
    let egress = json!({
        "mode": "allowlist", "allow": ["*.b.test", "::1"], "deny": ["a.test:8443"], "secrets": []
    });
    assert_eq!(site.settings("app-main")["egress"], egress);
    let json = site.run(&["egress", "list", "--json"]).ok().json();
    assert_eq!(json, json!({ "egress": egress, "host_proxy": null, "groups": [] }));
    // `allow` moves the entry back to the allow list.
    let back = site.run(&["egress", "allow", "a.test:8443", "--json"]).ok().json();
    assert_eq!((&back["egress"]["allow"][2], &back["egress"]["deny"]), (&json!("a.test:8443"), &json!([])));
    let config = fs::metadata(site.machine("app-main").join("config.json")).unwrap();
    assert_eq!(config.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_group_becomes_the_hosts_that_the_guest_defines() {
    let site = Site::new();
    site.create("main");
    give_guest(&site);
    site.run(&["egress", "allow", "@npm"])
        .ok()
        .says("@npm is now allowed for app-main")
        .prints("  allow   @npm\n")
        .prints("  group   @npm: registry.npmjs.org\n");
    let rules = site.machine("app-main").join("egress/rules/rules.json");
    let allow =
        || serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&rules).unwrap()).unwrap()["allow"].take();
    assert_eq!(allow(), json!([{ "host": "registry.npmjs.org", "port": null }]));
    assert_eq!(site.run(&["egress", "list", "--json"]).ok().json()["groups"][0]["name"], "npm");

    // An unknown group changes nothing, and the valid entry beside it is not stored either.
    let before = site.settings("app-main");
    site.run(&["egress", "allow", "c.test", "@nmp"])
        .exits(2)
        .gives_one_error()
        .says("error: unknown egress group @nmp")
        .says("hint: known groups: @npm");
    assert_eq!(site.settings("app-main"), before);
    assert_eq!(allow(), json!([{ "host": "registry.npmjs.org", "port": null }]));
    site.run(&["egress", "allow", "c.test"]).ok();
    assert_eq!(allow()[1]["host"], "c.test");
}

#[test]
fn groups_are_checked_before_a_guest_is_built() {
    let site = Site::new();
    // Without the toolkit's list of groups, a group is not checked before the guest is built.
    site.run(&["create", "--branch", "other", "--allow", "@nmp"]).ok();
    fs::create_dir_all(site.path("toolkit/lib/policy")).unwrap();
    site.write("toolkit/lib/policy/egress-groups.json", r#"{ "npm": ["registry.npmjs.org"], "pypi": ["pypi.org"] }"#);
    site.write("config.json", r#"{ "deny": ["@nmp"] }"#);
    let config = site.path("config.json").display().to_string();
    for wrong in [&["--allow", "a.test", "--allow", "@nmp"][..], &["--config", &config]] {
        site.run(&[&["create"], wrong].concat())
            .exits(2)
            .gives_one_error()
            .says("error: unknown egress group @nmp")
            .says("hint: known groups: @npm, @pypi");
        assert!(!site.machine("app-main").exists());
    }
    for wrong in [&["--allow", "npm"][..], &["--allow", "a.test", "--allow", "pypi"]] {
        let name = wrong[wrong.len() - 1];
        site.run(&[&["create"], wrong].concat())
            .exits(2)
            .gives_one_error()
            .says(&format!("error: {name} is a group of hosts"))
            .says(&format!("hint: write @{name}"));
    }
    assert!(!site.machine("app-main").exists());
    site.run(&["create", "--allow", "@npm"]).ok();
    site.run(&["set", "allow=pypi"]).exits(2).says("hint: write @pypi");
    let before = site.settings("app-main");
    for verb in ["allow", "deny"] {
        site.run(&["egress", verb, "@nmp"]).exits(2).gives_one_error().says("hint: known groups: @npm, @pypi");
    }
    assert_eq!(site.settings("app-main"), before);
    let listed = site.run(&["egress", "allow", "@pypi"]).ok();
    let listed = listed.prints("  allow   @pypi\n").prints("  group   @pypi: pypi.org\n");
    // `list` shows only the groups that are on a list.
    site.run(&["egress", "deny", "@npm"]).ok().says("@npm is now denied for app-main");
    assert!(!listed.stdout.contains("group   @rust"), "{listed:?}");
}

/// The name of a group without its @, and a machine's name in the place of a destination, would be taken as hosts.
#[test]
fn names_of_groups_and_machines_are_no_hosts() {
    let site = Site::new();
    site.create("main");
    site.create("other");
    give_guest(&site);
    let before = site.settings("app-main");
    for verb in ["allow", "deny"] {
        for (words, hint) in [
            (&["npm"][..], "@npm"),
            (&["a.test", "NPM", "--branch", "main"], "--branch main a.test @npm"),
            (&["main", "a.test"], "--branch main a.test"),
            (&["a.test:8443", "app-main"], "--branch app-main a.test:8443"),
            (&["other"], "--branch other DESTINATION"),
        ] {
            site.run(&[&["egress", verb], words].concat())
                .exits(2)
                .gives_one_error()
                .says(&format!("hint: agent-vm egress {verb} {hint}\n"));
        }
    }
    // Also where the current branch has no machine.
    site.git(&["checkout", "--quiet", "-b", "third"]);
    site.run(&["egress", "allow", "main", "a.test"])
        .exits(2)
        .says("hint: agent-vm egress allow --branch main a.test\n");
    site.git(&["checkout", "--quiet", "main"]);
    assert_eq!(site.settings("app-main"), before);
    // Control: other hosts without a dot, and hosts of the same name with a port, are destinations.
    site.run(&["egress", "allow", "registry", "npm:443", "main:80"])
        .ok()
        .prints("  allow   registry\n  allow   npm:443\n");
    // A host that is on a list already can also leave it.
    site.set("app-main", "egress", json!({ "mode": "allowlist", "allow": ["npm", "main"] }));
    site.run(&["egress", "deny", "npm", "main"]).ok();
}

#[test]
fn secrets_are_bound_to_a_port() {
    let site = Site::new();
    let specs = ["A=api.test", "B=api.test:443", "C=api.test:8443"];
    let args = specs.iter().flat_map(|spec| ["--secret", *spec]).collect::<Vec<_>>();
    let values = [("A", "the-value"), ("B", "the-value"), ("C", "the-value")];
    site.run_with(&values, &[&["create"], args.as_slice()].concat()).ok();
    site.run(&["egress", "list"])
        .ok()
        .prints("  secret  A=api.test\n  secret  B=api.test\n  secret  C=api.test:8443\n");
    give_guest(&site);
    site.run(&["egress", "allow", "c.test"]).ok();
    let rules = fs::read_to_string(site.machine("app-main").join("egress/rules/rules.json")).unwrap();
    let rules: serde_json::Value = serde_json::from_str(&rules).unwrap();
    let ports: Vec<_> = rules["secrets"].as_array().unwrap().iter().map(|one| one["port"].as_u64().unwrap()).collect();
    assert_eq!(ports, [443, 443, 8443]);
    assert_eq!(rules["allow"].as_array().unwrap().last().unwrap(), &json!({ "host": "api.test", "port": 8443 }));
}

#[test]
fn invalid_destinations_and_missing_machines_are_refused() {
    let site = Site::new();
    for verb in [&["list"][..], &["log"], &["allow", "a.test"], &["deny", "a.test"]] {
        site.run(&[&["egress"], verb].concat())
            .exits(1)
            .gives_one_error()
            .says("error: there is no machine for main")
            .says("hint: agent-vm create --branch main");
    }
    site.create("main");
    let before = site.settings("app-main");
    for verb in ["allow", "deny"] {
        for wrong in ["https://a.test", "a.test/x", "a.test:0", "a b", "@", ""] {
            site.run(&["egress", verb, "good.test", wrong])
                .exits(2)
                .gives_one_error()
                .says(&format!("error: invalid value '{wrong}'"))
                .says("is not a destination")
                .says("hint: give a host such as api.example.org");
        }
        site.run(&["egress", verb]).exits(2).gives_one_error();
    }
    assert_eq!(site.settings("app-main"), before);
    // Control: the valid destination alone is accepted.
    site.run(&["egress", "allow", "good.test"]).ok();
    assert_ne!(site.settings("app-main"), before);
}

#[test]
fn ignored_lists_are_reported() {
    let site = Site::new();
    let told = "notice: app-main has egress mode none: allow and deny lists are ignored";
    site.create("main");
    site.run(&["egress", "allow", "a.test"]).ok().does_not_say(told);
    site.set("app-main", "egress", json!({ "mode": "none" }));
    site.run(&["egress", "allow", "a.test"]).ok().says(told).prints("app-main: egress none\n  allow   a.test\n");
}

#[test]
fn the_log_is_printed_as_lines_and_as_json() {
    let site = Site::new();
    site.create("main");
    site.run(&["egress", "log"]).ok().says("app-main has no logged connection attempts");
    site.run(&["egress", "log", "-n", "0"]).ok().does_not_say("no logged");
    assert_eq!(site.run(&["egress", "log", "--json"]).ok().json(), json!([]));

    let attempt = |verdict: &str, host: &str| {
        json!({
            "time": "2026-01-02T03:04:05Z", "verdict": verdict, "method": "GET", "host": host, "port": 80,
            "path": "/p\u{1b}[2J", "status": 200, "bytes": null, "reason": "why"
        })
    };
    let attempts = [attempt("deny", "a.test"), attempt("allow", "b.test"), attempt("deny", "c.test")];
    log(&site, &attempts);
    let lines = site.run(&["egress", "log", "main"]).ok().stdout;
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("2026-01-02T03:04:05Z deny GET a.test:80/p"), "{}", lines[0]);
    assert!(lines[0].ends_with(" 200 - why") && !lines[0].contains('\u{1b}'), "{}", lines[0]);
    assert_eq!(site.run(&["egress", "log", "--json"]).ok().json(), json!(attempts));
    assert_eq!(site.run(&["egress", "log", "--denied", "-n", "1", "--json"]).ok().json(), json!([attempts[2]]));
    // A hint names the command for each host that a list would allow, once; an invalid host name gets no hint.
    let refused = |host: &str| {
        let mut attempt = attempt("deny", host);
        attempt["reason"] = "not on the allow list".into();
        attempt
    };
    log(&site, &[refused("a.test"), refused("a.test"), refused("b; id"), attempt("allow", "c.test")]);
    let told = site.run(&["egress", "log", "--denied"]).ok();
    let hints: Vec<_> = told.stderr.lines().filter(|line| line.starts_with("hint: ")).collect();
    assert_eq!(hints, ["hint: agent-vm egress allow --branch app-main a.test:80"]);
    site.run(&["egress", "log"]).ok().does_not_say("hint:");
    // None for what is allowed since then.
    site.run(&["egress", "allow", "a.test:80"]).ok();
    site.run(&["egress", "log", "--denied"]).ok().does_not_say("hint:");
    let mut closed = attempt("deny", "db.test");
    closed["reason"] = "resolves to 10.0.0.5, a private or reserved address".into();
    log(&site, &[closed]);
    site.run(&["egress", "suggest"]).ok().says("1 refusal of addresses that are closed").does_not_say("no destination");
    site.run(&["egress", "log", "--denied"]).ok().says("hint: agent-vm egress allow --branch app-main 10.0.0.5:80");
    site.run(&["egress", "log", "-n", "x"]).exits(2).gives_one_error();
}

#[test]
fn refused_destinations_are_proposed_and_allowed_when_asked_to() {
    let site = Site::new();
    site.create("main");
    site.run(&["egress", "suggest"]).ok().says("app-main was refused no destination");
    let denied = |host: &str| {
        json!({
            "time": "2026-01-01T00:00:00Z", "verdict": "deny", "method": "CONNECT", "host": host, "port": 443,
            "path": null, "status": null, "bytes": null, "reason": "not on the allow list"
        })
    };
    log(&site, &[denied("a.test"), denied("b.test"), denied("a.test")]);
    let command = "agent-vm egress allow --branch app-main a.test:443 b.test:443";
    site.run(&["egress", "suggest"]).ok().prints("a.test:443   2").prints("b.test:443   1").says(command);
    let listed = site.run(&["egress", "suggest", "--json"]).ok().json();
    assert_eq!((&listed[0]["destination"], &listed[0]["attempts"]), (&json!("a.test:443"), &json!(2)));
    site.run(&["egress", "suggest", "--apply"])
        .exits(2)
        .gives_one_error()
        .says("cannot ask without a terminal")
        .says(command);
    // Control: nothing has changed until now.
    assert_eq!(site.settings("app-main")["egress"]["allow"], json!([]));
    site.run(&["egress", "suggest", "--apply", "--yes"]).ok().prints("  allow   a.test:443\n  allow   b.test:443\n");
    assert_eq!(site.settings("app-main")["egress"]["allow"], json!(["a.test:443", "b.test:443"]));
    site.run(&["egress", "suggest"]).ok().says("app-main was refused no destination");
}

#[test]
fn the_hosts_proxy_is_a_setting_without_a_password() {
    let site = Site::new();
    site.create("main");
    let stored = || site.settings("app-main")["egress"].get("host_proxy").cloned();
    assert_eq!(stored(), None);
    site.run(&["set", "host_proxy=http://me@proxy.example:3128"]).ok();
    assert_eq!(stored(), Some(json!("http://me@proxy.example:3128")));
    let listed = site.run(&["egress", "list"]).ok().stdout;
    assert!(listed.contains("  proxy   http://me@proxy.example:3128\n"), "{listed}");
    for wrong in ["http://me:hidden@proxy.example:3128", "socks5://me:hidden@proxy.example"] {
        site.run(&["set", &format!("host_proxy={wrong}")]).exits(2).gives_one_error().does_not_say("hidden");
    }
    site.write("app/settings.json", r#"{ "host_proxy": "http://me:hidden@proxy.example" }"#);
    site.run(&["apply", "--config", "settings.json"]).exits(2).gives_one_error().does_not_say("hidden");
    assert_eq!(stored(), Some(json!("http://me@proxy.example:3128")));
    site.run(&["set", "--unset", "host_proxy"]).ok();
    assert_eq!(stored(), None);
}
