//! Clients without a session (2026-07-28), of servers that know versions with sessions only, or all of them.

use serde_json::{Value, json};

use crate::gateway::{Gateway, NEW, OLD, text, until};
use crate::http::send;

#[test]
fn results_have_what_the_version_requires() {
    let gateway = Gateway::start("old");
    let discovered = gateway.stateless("server/discover", json!({})).answer()["result"].clone();
    assert_eq!(discovered["supportedVersions"], json!([NEW, OLD, "2025-06-18", "2025-03-26", "2024-11-05"]));
    assert_eq!(
        (&discovered["capabilities"]["resources"], &discovered["instructions"]),
        (&json!({ "subscribe": true }), &"ask".into())
    );
    let listed = gateway.stateless("tools/list", json!({})).answer()["result"].clone();
    assert_eq!(
        (&listed["resultType"], &listed["ttlMs"], &listed["cacheScope"]),
        (&"complete".into(), &0.into(), &"private".into())
    );
    assert_eq!(listed["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "stand-in");
    assert_eq!(listed["tools"][0]["name"], "echo");
    let missing = gateway.stateless("resources/read", json!({ "uri": "x:/" })).answer();
    assert_eq!(missing["error"]["code"], -32602);
    // What the server does not know passes, too.
    let meta = json!({ "x/y": 1, "progressToken": "t" });
    let seen = gateway.stateless("tools/call", json!({ "name": "meta", "arguments": {}, "_meta": meta })).answer();
    let seen: Value = serde_json::from_str(&text(&seen)).unwrap();
    assert_eq!((&seen["x/y"], &seen["io.modelcontextprotocol/protocolVersion"]), (&1.into(), &NEW.into()));
    assert_eq!(seen.as_object().unwrap().len(), 5);
    let completion = json!({ "argument": { "name": "a", "value": "x" }, "ref": {} });
    assert_eq!(
        gateway.stateless("completion/complete", completion).answer()["result"]["completion"]["values"],
        json!(["x!"])
    );
}

#[test]
fn what_the_version_does_not_have_is_refused() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        for method in ["ping", "initialize", "logging/setLevel", "x/unknown"] {
            let response = gateway.stateless(method, json!({ "protocolVersion": NEW, "level": "info" }));
            assert_eq!(
                response.status,
                if era == "old" || method == "x/unknown" { 404 } else { response.status },
                "{era} {method}"
            );
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} }).to_string();
        let headers =
            [("content-type", "application/json"), ("mcp-protocol-version", NEW), ("mcp-method", "tools/list")];
        let response = send(gateway.port, "POST", "/mcp", &headers, body.as_bytes());
        assert_eq!(response.status, 400);
        assert_eq!(response.answer()["error"]["code"], -32602);
        let headers = [("content-type", "application/json"), ("mcp-protocol-version", "1900-01-01")];
        let response = send(gateway.port, "POST", "/mcp", &headers, body.as_bytes());
        assert_eq!(response.status, 400);
        assert_eq!(response.answer()["error"]["code"], -32022);
        assert_eq!(send(gateway.port, "GET", "/mcp", &[("mcp-protocol-version", NEW)], b"").status, 405);
    }
}

#[test]
fn progress_and_logs_come_with_their_request_only() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        let call = |token: &str, level: Option<&str>, name: &str, arguments: Value| {
            let mut meta = json!({ "progressToken": token });
            if let Some(level) = level {
                meta["io.modelcontextprotocol/logLevel"] = level.into();
            }
            gateway.stateless("tools/call", json!({ "name": name, "arguments": arguments, "_meta": meta }))
        };
        let messages = call("my token", None, "progress", json!({ "count": 30 })).messages();
        let numbers: Vec<u64> = messages.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "{era}");
        assert_eq!(messages[0]["params"]["progressToken"], "my token");
        let log = json!({ "level": "warning", "data": "d" });
        assert_eq!(call("t", None, "log", log.clone()).messages().len(), 1, "{era}");
        assert_eq!(call("t", Some("error"), "log", log.clone()).messages().len(), 1, "{era}");
        let messages = call("t", Some("info"), "log", log).messages();
        assert_eq!(messages[0]["method"], "notifications/message", "{era}");
        assert_eq!(messages.len(), 2);
    }
}

#[test]
fn a_closed_stream_cancels_its_call() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        let file = gateway.path("cancelled");
        let params = json!({ "name": "wait", "arguments": { "file": file }, "_meta": { "progressToken": 1 } });
        let mut call = gateway.stateless("tools/call", params);
        assert_eq!(call.message().unwrap()["method"], "notifications/progress");
        assert!(!file.exists());
        drop(call);
        until("the cancellation", || file.exists());
    }
}

#[test]
fn questions_of_the_server_become_results_and_their_answers_another_request() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        let capabilities = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
        for method in ["elicitation/create", "sampling/createMessage", "roots/list"] {
            let params = json!({ "name": "ask", "arguments": { "method": method, "params": { "p": [1] } } });
            let asked = gateway.stateless_as(&capabilities, 1, "tools/call", params.clone()).answer()["result"].clone();
            assert_eq!(asked["resultType"], "input_required", "{era}");
            let (key, request) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
            assert_eq!(*request, json!({ "method": method, "params": { "p": [1] } }));
            let retry = |arguments: Value, state: Value| {
                let mut again = params.clone();
                again["arguments"] = arguments;
                again["requestState"] = state;
                again["inputResponses"] = json!({ key: { "answer": method } });
                gateway.stateless_as(&capabilities, 2, "tools/call", again).answer()
            };
            if era == "old" {
                for (arguments, state) in
                    [(params["arguments"].clone(), json!("guessed")), (json!({}), asked["requestState"].clone())]
                {
                    assert_eq!(retry(arguments, state)["error"]["code"], -32602);
                }
            }
            let answer = retry(params["arguments"].clone(), asked["requestState"].clone());
            assert_eq!(
                (&answer["id"], serde_json::from_str::<Value>(&text(&answer)).unwrap()),
                (&2.into(), json!({ "answer": method }))
            );
        }
    }
}

#[test]
fn a_server_does_not_ask_a_client_that_cannot_answer() {
    let gateway = Gateway::start("old");
    let params = json!({ "name": "ask", "arguments": { "method": "sampling/createMessage" } });
    let answer = gateway.stateless("tools/call", params.clone()).answer();
    assert!(text(&answer).contains("the client does not support sampling/createMessage"), "{answer}");
    let answer = gateway.stateless_as(&json!({ "roots": {} }), 1, "tools/call", params).answer();
    assert!(text(&answer).contains("the client does not support sampling/createMessage"), "{answer}");
}

#[test]
fn inputs_that_do_not_come_in_time_end_the_call() {
    let gateway = Gateway::start_with("old", &json!({}), &["--answer-within=1"]);
    let capabilities = json!({ "roots": {} });
    let params = json!({ "name": "ask", "arguments": { "method": "roots/list" } });
    let asked = gateway.stateless_as(&capabilities, 1, "tools/call", params.clone()).answer()["result"].clone();
    let mut again = params;
    again["requestState"] = asked["requestState"].clone();
    again["inputResponses"] = json!({});
    until("the end of the call", || {
        gateway.stateless_as(&capabilities, 2, "tools/call", again.clone()).answer()["error"]["code"] == -32602
    });
}

#[test]
fn a_client_that_calls_one_after_the_other_gets_the_same_process() {
    let gateway = Gateway::start("old");
    let capabilities = json!({ "roots": {} });
    let call = |capabilities: &Value| {
        text(&gateway.stateless_as(capabilities, 1, "tools/call", json!({ "name": "count", "arguments": {} })).answer())
    };
    for expected in ["1", "2", "3"] {
        assert_eq!(call(&json!({})), expected);
        // A client with other capabilities has another process.
        assert_eq!(call(&capabilities), expected);
    }
}

#[test]
fn calls_of_clients_that_may_be_asked_have_a_process_each() {
    let gateway = Gateway::start("old");
    let capabilities = json!({ "sampling": {} });
    let ask = |number: u64| {
        let params = json!({ "name": "ask", "arguments": { "method": "sampling/createMessage", "params": { "number": number } } });
        let result = gateway.stateless_as(&capabilities, 5, "tools/call", params.clone()).answer()["result"].clone();
        (params, result)
    };
    let asked: Vec<_> = (0..3).map(ask).collect();
    for (number, (mut params, result)) in asked.into_iter().enumerate().rev() {
        let (key, request) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(request["params"]["number"], number);
        params["requestState"] = result["requestState"].clone();
        params["inputResponses"] = json!({ key: { "number": number } });
        let answer = gateway.stateless_as(&capabilities, 6, "tools/call", params).answer();
        assert_eq!(text(&answer), format!("{{\"number\": {number}}}"));
    }
}

#[test]
fn a_subscription_tells_only_what_was_asked_for() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["x:/y"] });
        let mut stream =
            gateway.stateless_as(&json!({}), 77, "subscriptions/listen", json!({ "notifications": filter }));
        let first = stream.message().unwrap();
        assert_eq!(
            (&first["method"], &first["params"]["notifications"]),
            (&"notifications/subscriptions/acknowledged".into(), &filter)
        );
        gateway.stateless_call("changes", &json!({}));
        let mut methods = Vec::new();
        while methods.last() != Some(&json!("notifications/resources/updated")) {
            let message = stream.message().unwrap();
            assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 77, "{era} {message}");
            methods.push(message["method"].clone());
        }
        if era == "old" {
            // The other eras' stand-in does not filter.
            assert_eq!(methods, ["notifications/tools/list_changed", "notifications/resources/updated"]);
        }
    }
}

#[test]
fn clients_share_a_process_and_see_nothing_of_each_other() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        let call = |text: &str| {
            let params = json!({ "name": "progress", "arguments": { "count": 20, "text": text }, "_meta": { "progressToken": "same" } });
            gateway.stateless("tools/call", params)
        };
        let (mut one, mut two) = (call("one"), call("two"));
        for number in 0..20 {
            for (call, name) in [(&mut one, "one"), (&mut two, "two")] {
                let message = call.message().unwrap();
                assert_eq!(
                    (&message["params"]["progress"], &message["params"]["message"]),
                    (&number.into(), &name.into()),
                    "{era}"
                );
            }
        }
        assert_eq!(text(&one.message().unwrap()) + &text(&two.message().unwrap()), "donedone");
    }
}

#[test]
fn a_server_that_ends_fails_its_calls_only_once() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        for _ in 0..3 {
            let error =
                gateway.stateless("tools/call", json!({ "name": "die", "arguments": {} })).answer()["error"].clone();
            let expected = "it exited with status 3; its last line was: last words";
            assert!(error["message"].as_str().unwrap().contains(expected), "{era} {error}");
            until("another process", || gateway.stateless("tools/list", json!({})).answer()["result"].is_object());
        }
    }
}

#[test]
fn a_subscription_hears_of_every_process() {
    for era in ["old", "both", "new"] {
        let gateway = Gateway::start(era);
        let capabilities = json!({ "roots": {} });
        let call = |id: u64, name: &str, arguments: Value| {
            let meta = json!({ "progressToken": id, "io.modelcontextprotocol/logLevel": "debug" });
            let params = json!({ "name": name, "arguments": arguments, "_meta": meta });
            gateway.stateless_as(&capabilities, id, "tools/call", params)
        };
        let process = text(&call(1, "process", json!({})).answer());
        let filter = json!({ "resourceSubscriptions": ["x:/1", "x:/2"] });
        let mut stream = gateway.stateless("subscriptions/listen", json!({ "notifications": filter }));
        assert_eq!(stream.message().unwrap()["method"], "notifications/subscriptions/acknowledged");
        // Log messages do not name their call, so that the second call gets another process.
        let mut waiting = call(2, "wait", json!({ "file": "/dev/null" }));
        assert_eq!(waiting.message().unwrap()["method"], "notifications/progress");
        assert_ne!(text(&call(3, "process", json!({})).answer()), process, "{era}");
        let mut updates = Vec::new();
        for uri in ["x:/1", "x:/2"] {
            call(4, "changes", json!({ "uri": uri })).answer();
            updates.push(uri);
        }
        let mut heard = Vec::new();
        while heard.len() < updates.len() {
            let message = stream.message().unwrap();
            if message["method"] == "notifications/resources/updated" {
                heard.push(message["params"]["uri"].as_str().unwrap().to_owned());
            }
        }
        // Each once.
        assert_eq!(heard, updates, "{era}");
    }
}
