//! Servers that end, hang or write nonsense.

use std::fs;

use serde_json::{Value, json};

use crate::gateway::{Gateway, OLD, stand_in, text, until};

#[test]
fn a_server_that_ends_is_told_and_started_again() {
    let gateway = Gateway::start("old");
    let (session, other) = (gateway.session(), gateway.session());
    let process = other.text("process", &json!({}));
    let mut hanging = session.call("wait", &json!({ "file": "/dev/null" }));
    assert_eq!(hanging.message().unwrap()["method"], "notifications/progress");
    let died = session.ask(9, "tools/call", &json!({ "name": "die" })).answer();
    let expected = "The MCP server default has failed: it exited with status 3; its last line was: last words. For details: agent-vm logs";
    assert_eq!((&died["error"]["code"], &died["error"]["message"]), (&(-32000).into(), &expected.into()));
    assert_eq!(hanging.answer()["error"]["message"], expected);
    // The session goes on with another process, and others notice nothing.
    assert_eq!(session.text("echo", &json!({ "a": 1 })), r#"{"a": 1}"#);
    assert_eq!(other.text("process", &json!({})), process);
    until("its record", || gateway.state("default")["restarts"] == 1);
    assert_eq!(gateway.state("default")["state"], "running");
    assert!(gateway.log().contains("one of its processes exited with status 3"));
}

#[test]
fn a_session_hears_of_its_servers_end_and_restart() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    let mut stream = session.get(None);
    session.call("die", &json!({})).answer();
    let kinds: Vec<Value> = (0..4).map(|_| stream.message().unwrap()["method"].clone()).collect();
    assert_eq!(kinds[0], "notifications/message");
    assert_eq!(
        kinds[1..],
        ["tools", "prompts", "resources"].map(|kind| json!(format!("notifications/{kind}/list_changed")))
    );
}

#[test]
fn the_next_process_gets_the_log_level_and_the_subscriptions() {
    for era in ["old", "new"] {
        let gateway = Gateway::start(era);
        let session = gateway.session();
        session.ask(1, "logging/setLevel", &json!({ "level": "warning" })).answer();
        for uri in ["x:/kept", "x:/left"] {
            session.ask(2, "resources/subscribe", &json!({ "uri": uri })).answer();
        }
        session.ask(3, "resources/unsubscribe", &json!({ "uri": "x:/left" })).answer();
        let before = session.text("process", &json!({}));
        session.call("die", &json!({})).answer();
        assert_ne!(session.text("process", &json!({})), before);
        assert_eq!(session.text("level", &json!({})), "\"warning\"", "{era}");
        assert_eq!(session.text("subscribed", &json!({})), "[\"x:/kept\"]", "{era}");
        // Control: another session's process has neither.
        assert_eq!(gateway.session().text("subscribed", &json!({})), "[]", "{era}");
    }
}

#[test]
fn initialize_is_answered_before_the_server_runs() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("starts.wait"), "").unwrap();
    let gateway = Gateway::start_in(home, "old", &json!({}), &["--grace=0"]);
    let session = gateway.session();
    assert_eq!(session.hello["serverInfo"], json!({ "name": "default", "version": "0" }));
    assert_eq!(session.hello["capabilities"]["tools"], json!({ "listChanged": true }));
    assert_eq!(gateway.state("default")["state"], "starting");
    let mut stream = session.get(None);
    let waiting = std::thread::spawn({
        let session = session.clone();
        move || session.text("echo", &json!({ "waited": true }))
    });
    assert_eq!(session.ask(1, "ping", &json!({})).answer()["result"], json!({}));
    fs::write(gateway.path("starts.go"), "").unwrap();
    assert_eq!(waiting.join().unwrap(), r#"{"waited": true}"#);
    assert_eq!(stream.message().unwrap()["method"], "notifications/tools/list_changed");
    // A new client gets the server's own answer, and its own protocol version.
    let next = gateway.session_of("/mcp", "2025-06-18", &json!({}));
    assert_eq!(
        (&next.hello["serverInfo"]["name"], &next.hello["protocolVersion"]),
        (&"stand-in".into(), &"2025-06-18".into())
    );
}

#[test]
fn requests_for_a_server_that_is_starting_wait_for_a_limited_time() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("starts.wait"), "").unwrap();
    let gateway = Gateway::start_in(home, "old", &json!({}), &["--grace=0", "--patience=100"]);
    let session = gateway.session();
    let error = session.call("echo", &json!({})).answer()["error"].clone();
    assert!(
        error["message"].as_str().unwrap().starts_with("The MCP server default is still starting after "),
        "{error}"
    );
    assert_eq!((&error["data"]["name"], &error["data"]["state"]), (&"default".into(), &"starting".into()));
    let error = gateway.stateless("tools/list", json!({})).answer()["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("is still starting"), "{error}");
    fs::write(gateway.path("starts.go"), "").unwrap();
    until("the server", || gateway.state("default")["state"] == "running");
    until("the process of the session", || session.call("echo", &json!({})).answer()["result"].is_object());
}

#[test]
fn pauses_of_a_session_start_over_after_a_process_that_ran_for_long() {
    // Control: short runs are followed by a pause.
    for (steady, patience, ran_long) in [("3600000", "2000", false), ("0", "45000", true)] {
        let times = [format!("--steady={steady}"), format!("--patience={patience}")];
        let gateway = Gateway::start_with("old", &json!({}), &["--pause=3600000", &times[0], &times[1]]);
        let session = gateway.session();
        let lives = || session.call("echo", &json!({})).answer()["result"].is_object();
        for process in ["the first process", "the next process"] {
            until(process, lives);
            session.call("die", &json!({})).answer();
        }
        assert_eq!(lives(), ran_long);
    }
}

#[test]
fn broken_servers_harm_nobody_and_are_told() {
    let named = json!({
        "false": { "command": "false" },
        "directory": { "command": "sh", "args": ["-c", "exec /"] },
        "killed": { "command": "sh", "args": ["-c", "kill -9 $$"] },
        "silent": { "command": "sleep", "args": ["1000"] },
        "noisy": { "command": "yes" },
        "endless": { "command": "cat", "args": ["/dev/zero"] },
        "deaf": { "command": "sh", "args": ["-c", "exec sleep 1000 <&-"] },
    });
    let gateway =
        Gateway::start_with("old", &named, &["--pause=3600000", "--spacing=3600000", "--patience=1000", "--grace=200"]);
    for (name, why) in [
        ("false", "exited with status 1"),
        ("directory", "exited with status 126"),
        ("killed", "was ended by signal 9"),
        ("noisy", "writes lines that are not MCP messages"),
        ("endless", "writes lines that are not MCP messages"),
    ] {
        until(name, || gateway.state(name)["state"] == "failed");
        assert_eq!(gateway.state(name)["why"], why);
        let session = gateway.session_of(&format!("/servers/{name}/mcp"), OLD, &json!({}));
        assert_eq!(session.hello["serverInfo"]["name"], name);
        let error = session.call("x", &json!({})).answer()["error"]["message"].clone();
        assert!(error.as_str().unwrap().starts_with(&format!("The MCP server {name} has failed: it {why}")), "{error}");
    }
    for name in ["silent", "deaf"] {
        let session = gateway.session_of(&format!("/servers/{name}/mcp"), OLD, &json!({}));
        assert!(session.call("x", &json!({})).answer()["error"].is_object());
    }
    assert_eq!(gateway.session().text("echo", &json!({})), "{}");
    assert_eq!(gateway.state("killed")["signal"], 9);
    assert_eq!(gateway.state("false")["exit_code"], 1);
}

#[test]
fn a_request_restarts_a_server_that_has_failed() {
    let named = json!({ "late": { "command": "sh", "args": ["-c", "[ -e now ] && exec python3 -B \"$0\" old || exit 5", stand_in("old", None)["args"][1]] } });
    let gateway = Gateway::start_with("old", &named, &["--pause=3600000"]);
    until("its failure", || gateway.state("late")["state"] == "failed");
    let session = gateway.session_of("/servers/late/mcp", OLD, &json!({}));
    fs::write(gateway.path("now"), "").unwrap();
    until("its answer", || session.call("echo", &json!({})).answer()["result"].is_object());
    assert_eq!(gateway.state("late")["state"], "running");
}

#[test]
fn noise_between_messages_is_ignored_and_an_endless_line_ends_the_process() {
    let gateway = Gateway::start("old");
    let session = gateway.session();
    assert_eq!(text(&session.call("noise", &json!({ "lines": 500 })).answer()), "noise");
    let error = session.call("endless", &json!({})).answer()["error"]["message"].clone();
    assert!(error.as_str().unwrap().contains("it writes lines that are not MCP messages"), "{error}");
    assert_eq!(session.text("echo", &json!({})), "{}");
}

#[test]
fn errors_in_the_file_are_recorded() {
    let named = json!({ "a b": { "command": "true" }, "none": { "command": "no-such-program" } });
    let gateway = Gateway::start_with("old", &named, &[]);
    let file: Value = serde_json::from_str(&fs::read_to_string(gateway.path("servers.json")).unwrap()).unwrap();
    assert_eq!(file["problems"].as_array().unwrap().len(), 2);
    assert!(
        gateway
            .log()
            .contains(".mcp.json: server \"none\": its command \"no-such-program\" is not installed in this machine")
    );
}

#[test]
fn a_server_that_closes_its_input_or_output_is_told_so() {
    let python = |code: &str| json!({ "command": "python3", "args": ["-c", code] });
    let named = json!({
        "mute": python("import os, time; os.close(1); time.sleep(1000)"),
        "deaf": python("import os, time; os.close(0); time.sleep(1000)"),
        // Control: these end by themselves, a moment later.
        "mute-ends": python("import os, time; os.close(1); time.sleep(0.1); os._exit(7)"),
        "deaf-ends": python("import os, time; os.close(0); time.sleep(0.1); os._exit(8)"),
    });
    let gateway = Gateway::start_with("old", &named, &["--pause=3600000", "--spacing=3600000"]);
    for (name, why) in [
        ("mute", "closed its standard output"),
        ("deaf", "closed its standard input"),
        ("mute-ends", "exited with status 7"),
        ("deaf-ends", "exited with status 8"),
    ] {
        until(name, || gateway.state(name)["state"] == "failed");
        assert_eq!(gateway.state(name)["why"], why);
    }
}
