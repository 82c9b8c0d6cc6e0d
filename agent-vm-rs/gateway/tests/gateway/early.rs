//! What servers do before their first client comes, or when it does.

use std::fs;
use std::thread;

use serde_json::json;

use crate::gateway::{Gateway, until};

#[test]
fn a_server_that_ends_at_discovery_has_not_failed() {
    let home = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_in(home, "old-discovers", &json!({}), &["--pause=3600000", "--spacing=3600000"]);
    let answer = thread::scope(|scope| {
        let client = scope.spawn(|| gateway.stateless("tools/list", json!({})).answer());
        until("the end", || gateway.log().contains("default exited with status 6 when it was sent server/discover"));
        let state = gateway.state("default");
        assert_eq!((&state["state"], &state["restarts"]), (&"starting".into(), &0.into()));
        fs::write(gateway.path("starts.go"), "").unwrap();
        client.join().unwrap()
    });
    assert_eq!(answer["result"]["tools"][0]["name"], "echo", "{answer}");
}
