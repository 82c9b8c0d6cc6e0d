//! `image`: the images of the Debian guest.

use std::fs;

use serde_json::{Value, json};

use crate::stand_ins::{ENDS, create, install};
use crate::support::Site;

fn images(site: &Site) -> Vec<Value> {
    site.run(&["image", "list", "--json"]).ok().json().as_array().unwrap().clone()
}

#[test]
fn images_are_listed_with_their_machines_and_unused_ones_are_removed() {
    let site = Site::new();
    site.run(&["image", "list"]).ok().says("there are no images yet");
    site.run(&["image", "prune"]).ok().says("nothing to remove");
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1);
    let [image] = &images(&site)[..] else { panic!() };
    assert_eq!((&image["name"], &image["users"]), (&json!("0123456789abcdef"), &json!(["app-main"])));
    site.run(&["image", "list"]).ok().prints("app-main");
    site.run(&["image", "prune"]).ok().says("nothing to remove");
    site.run(&["destroy", "--yes"]).ok();
    assert_eq!(images(&site)[0]["users"], json!([]));
    site.run(&["image", "prune", "--dry-run"])
        .ok()
        .prints("image 0123456789abcdef: would be removed")
        .says("would free ");
    assert_eq!(site.run(&["image", "prune", "--json"]).ok().json()[0]["outcome"], "removed");
    assert!(images(&site).is_empty());
}

#[test]
fn an_update_takes_effect_at_the_next_start() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1);
    let flake = || site.read("data/agent-vms/app-main/flake/flake.nix");
    assert!(!flake().contains("snapshot"), "{}", flake());
    let update = site.run(&["image", "update", "--json"]).ok().json();
    let (from, to) = (update["from"].as_str().unwrap(), update["to"].as_str().unwrap());
    assert!(from < to, "{update}");
    assert!(site.read("config/agent-vm/debian-snapshot.json").contains(to));
    // Nothing changes before the start.
    assert!(!flake().contains("snapshot"));
    site.run(&["start"]).exits(1);
    assert!(flake().contains(&format!("snapshot = \"{to}\";")), "{}", flake());
    let again = site.run(&["image", "update", "--json"]).ok().json();
    assert_eq!((&again["from"], &again["to"]), (&json!(to), &json!(to)));
    site.run(&["image", "update"]).ok().says("which is the newest").says("uses Debian's mirror");
    // A choice that was made while the clock was wrong.
    site.write("config/agent-vm/debian-snapshot.json", r#"{"date": "29990101T000000Z"}"#);
    let back = site.run(&["image", "update", "--json"]).ok().json();
    assert_eq!((&back["from"], &back["to"]), (&json!("29990101T000000Z"), &json!(to)));
    assert!(site.read("config/agent-vm/debian-snapshot.json").contains(to));
    // A file that something else wrote.
    site.write("config/agent-vm/debian-snapshot.json", "{}");
    site.run(&["start"]).exits(1).says("has no snapshot of Debian").says("hint: to replace it: agent-vm image update");
    site.run(&["image", "update"]).ok();
    site.run(&["start"]).exits(1).does_not_say("has no snapshot of Debian");
}

/// A machine keeps neither the image of its former settings nor that of a start that another one followed.
#[test]
fn an_image_of_former_settings_is_not_used() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    site.run(&["start"]).exits(1);
    let from_nix = site.read("from-nix.json");
    site.write("from-nix.json", from_nix.replace("0123456789abcdef", "fedcba9876543210"));
    site.set("app-main", "packages", json!(["make"]));
    site.run(&["start"]).exits(1);
    let users: Vec<_> = images(&site).iter().map(|image| (image["name"].clone(), image["users"].clone())).collect();
    let [new, former] = ["fedcba9876543210", "0123456789abcdef"].map(|name| json!(name));
    assert_eq!(users, [(former, json!([])), (new, json!(["app-main"]))]);
    site.run(&["image", "prune"]).ok().prints("image 0123456789abcdef: removed");
    assert_eq!(images(&site).len(), 1);
}

#[test]
fn old_packages_are_a_notice_of_the_start() {
    let site = Site::new();
    install(&site, ENDS);
    let builder = site.read("builder");
    let write = |time: &str| {
        let write =
            format!("echo '{{\"snapshot\": {time}, \"built\": \"{}\"}}' >\"$2/share/agent-vm/built.json\"", now());
        fs::write(site.path("builder"), format!("{builder}\n{write}\n")).unwrap();
    };
    write("\"2001-01-01T00:00:00Z\"");
    create(&site, "main");
    site.run(&["start"]).exits(1).says("notice: the Debian packages of app-main are ").says("agent-vm image update");
    site.run(&["update"]).ok().says(" old.").says("agent-vm image update");
    site.run(&["destroy", "--yes"]).ok();
    site.run(&["image", "prune"]).ok();
    // Control: a new image.
    write("null");
    create(&site, "main");
    site.run(&["start"]).exits(1).does_not_say("notice: the Debian packages");
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}
