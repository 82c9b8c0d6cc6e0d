//! Arbitrary messages pass through `agent-vm mcp` with their values unchanged.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::bridge::{Client, started};
use crate::json_values::{message, value};

/// Returns JSON without white space between values, and with its strings written in one way.
fn canonical(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let string = strings.next().unwrap().unwrap();
            out.push_str(&serde_json::to_string(&string).unwrap());
            rest = &rest[strings.byte_offset()..];
        } else {
            out.extend((!first.is_ascii_whitespace()).then_some(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Returns the next line that the stand-in does not send of its own accord.
fn next(client: &mut Client) -> String {
    loop {
        let line = client.line();
        if !line.contains("its own accord") {
            return line;
        }
    }
}

#[test]
fn values_pass_unchanged_in_both_directions() {
    let (site, inside) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let client = std::cell::RefCell::new(client);
    let number = std::cell::Cell::new(1);
    let cases = ("[a-z/]{1,20}", value(), value(), any::<bool>());
    let strategy = cases.prop_flat_map(|(method, params, result, fails)| {
        let version = || ("jsonrpc", "\"2.0\"".to_owned());
        let method = ("method", format!("\"x/{method}\""));
        let params = ("params", params);
        let notice = message(vec![version(), method.clone(), params.clone()]);
        // The bridge asks nothing, so the server's identities are free.
        let question = message(vec![version(), ("id", "\"q\"".to_owned()), method, params]);
        let answer =
            message(vec![version(), ("id", "\"ID\"".to_owned()), (if fails { "error" } else { "result" }, result)]);
        (notice, question, answer)
    });
    TestRunner::new(Config { cases: 50, failure_persistence: None, max_shrink_iters: 0, ..Config::default() })
        .run(&strategy, |(notice, question, answer)| {
            let mut client = client.borrow_mut();
            let id = format!("\"own-{}\"", number.replace(number.get() + 1));
            let answer = answer.replace("\"ID\"", &id);
            // From the machine: a notification, a question and the answer.
            let messages = json!({ "messages": [notice, question, answer] });
            client.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"say","params":{messages}}}"#));
            for sent in [&notice, &question, &answer] {
                prop_assert_eq!(canonical(&next(&mut client)), canonical(sent));
            }
            // To the machine: a request, which the stand-in answers, and before it a notification and an answer.
            let request = question.replace("\"q\"", &id);
            for sent in [&notice, &answer, &request] {
                client.send(sent);
            }
            let line = next(&mut client);
            prop_assert!(line.contains("\"echo\""), "{line}");
            let received: Vec<String> = inside.requests().iter().rev().map(|asked| canonical(&asked.text)).collect();
            for sent in [&notice, &answer, &request] {
                prop_assert!(received.contains(&canonical(sent)), "{sent} is not in {received:?}");
            }
            Ok(())
        })
        .unwrap();
}
