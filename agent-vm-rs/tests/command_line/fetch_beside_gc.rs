//! `fetch` while the user's `git gc` removes everything that no reference leads to.

use std::fs;

use crate::support::{Site, which};

fn packs(site: &Site, end: &str) -> usize {
    let names = fs::read_dir(site.path("app/.git/objects/pack")).unwrap().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().ends_with(end)).count()
}

#[test]
fn a_pack_stays_until_references_lead_to_it() {
    let site = Site::new();
    let (_, commit) = site.create_with_work();
    let real = which("git").unwrap();
    let gc = format!("'{}' -C '{}' gc --quiet --prune=now", real.display(), site.repo().display());
    // Control: it removes a pack that no reference leads to.
    site.run(&["fetch"]).ok();
    assert_eq!((packs(&site, ".idx"), packs(&site, ".keep")), (1, 0));
    site.git(&["update-ref", "-d", "refs/agent-vm/app-main/heads/main"]);
    site.git(&["gc", "--quiet", "--prune=now"]);
    let lost = site.command(&real).args(["cat-file", "-e", &commit]).status().unwrap();
    assert!(!lost.success());

    site.intercept("git", "update-ref", &format!("{gc} && touch '{}'", site.path("collected").display()));
    site.run(&["fetch"]).ok();
    site.restore("git");
    assert!(site.path("collected").exists());
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), commit);
    site.git(&["fsck", "--strict"]);
    assert_eq!(packs(&site, ".keep"), 0);
}
