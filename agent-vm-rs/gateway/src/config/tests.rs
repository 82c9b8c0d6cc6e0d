use std::fs;

use super::*;

fn read(content: &[u8]) -> (Vec<Server>, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".mcp.json");
    fs::write(&path, content).unwrap();
    file::read(&path)
}

fn one(name: &str, entry: &str) -> (Vec<Server>, Vec<String>) {
    read(format!(r#"{{"mcpServers":{{{}:{entry},"good":{{"command":"true"}}}}}}"#, quote(name)).as_bytes())
}

#[test]
fn a_missing_file_causes_no_warning() {
    assert_eq!(file::read(Path::new("/nonexistent/.mcp.json")), Default::default());
}

#[test]
fn a_server_has_arguments_and_variables() {
    let entry = r#"{"type":"stdio","command":"true","args":["${NO_SUCH:-d}","$5"],"env":{"A":"b"}}"#;
    let (servers, warnings) = one("s", entry);
    assert_eq!(warnings, Vec::<String>::new());
    let Launch::Program { argv, env } = &servers[0].launch else { panic!("no program") };
    assert_eq!(argv, &["true", "d", "$5"]);
    assert_eq!(env, &[("A".to_owned(), "b".to_owned())]);
}

#[test]
fn a_remote_server_has_a_url_and_headers() {
    let (servers, warnings) =
        one("s", r#"{"type":"http","url":"https://x.example/mcp?a=1","headers":{"Authorization":"Bearer ${NO:-t}"}}"#);
    assert_eq!(warnings, Vec::<String>::new());
    let Launch::Remote(remote) = &servers[0].launch else { panic!("no remote server") };
    assert_eq!((remote.kind, remote.url.to_string().as_str()), (RemoteKind::Http, "https://x.example/mcp?a=1"));
    assert_eq!(remote.headers[0].1, "Bearer t");
}

#[test]
fn an_invalid_file_causes_one_warning() {
    let deep = "[".repeat(200_000).into_bytes();
    let large = vec![b' '; (1 << 20) + 1];
    for (content, expected) in [
        (&b""[..], "not valid JSON, so none of its servers is served"),
        (b"{", "not valid JSON, so none of its servers is served"),
        (b"[]", "not a JSON object, so none of its servers is served"),
        (b"\xff\xfe", "not UTF-8, so none of its servers is served"),
        (&deep, "not valid JSON, so none of its servers is served"),
        (&large, "larger than 1 MiB, so it is not read"),
        (br#"{"mcpServers":[]}"#, "\"mcpServers\" is not an object, so none of its servers is served"),
        (br#"{"mcpServers":7}"#, "\"mcpServers\" is not an object, so none of its servers is served"),
    ] {
        let (servers, warnings) = read(content);
        assert_eq!((servers.len(), warnings.len()), (0, 1), "{expected}");
        assert!(warnings[0].starts_with(".mcp.json: ") && warnings[0].contains(expected), "{}", warnings[0]);
    }
}

#[test]
fn an_invalid_server_causes_one_warning_and_the_others_are_served() {
    for (entry, expected) in [
        ("null", "not an object"),
        ("[]", "not an object"),
        ("{}", "it has no \"command\""),
        (r#"{"command":""}"#, "its command \"\" is not installed in this machine"),
        (r#"{"command":7}"#, "\"command\" contains a value that is not a string"),
        (r#"{"command":["true"]}"#, "\"command\" contains a value that is not a string"),
        (r#"{"command":"no-such-program"}"#, "its command \"no-such-program\" is not installed in this machine"),
        (r#"{"command":"tr\u0000ue"}"#, "\"command\" contains a character that cannot be passed to a program"),
        (r#"{"command":"true","args":"x"}"#, "\"args\" is not a list"),
        (r#"{"command":"true","args":[1]}"#, "\"args\" contains a value that is not a string"),
        (r#"{"command":"true","args":["\ud800"]}"#, "contains a character that cannot be passed to a program"),
        (r#"{"command":"true","env":[]}"#, "\"env\" is not an object"),
        (r#"{"command":"true","env":{"A=B":"x"}}"#, "\"env\" has an invalid name \"A=B\""),
        (r#"{"command":"true","env":{"":"x"}}"#, "\"env\" has an invalid name \"\""),
        (r#"{"command":"true","env":{"A":1}}"#, "\"env\" contains a value that is not a string"),
        (r#"{"command":"true","args":["${NOT_SET_HERE}"]}"#, "the environment variable NOT_SET_HERE is not set"),
        (r#"{"type":"ws","url":"ws://x"}"#, "only servers of type stdio, http and sse are served"),
        (r#"{"type":7,"command":"true"}"#, "only servers of type stdio, http and sse are served"),
        (r#"{"type":"http"}"#, "it has no \"url\""),
        (r#"{"url":"ftp://x"}"#, "its URL \"ftp://x\" does not begin with http:// or https://"),
        (r#"{"url":"http://a b"}"#, "its URL \"http://a b\" is not valid"),
        (r#"{"url":"http://x","headers":{"a b":"c"}}"#, "\"headers\" has an invalid name \"a b\""),
        (r#"{"url":"http://x","headers":{"a":"c\n"}}"#, "the value of the header \"a\" is not valid"),
    ] {
        let (servers, warnings) = one("s", entry);
        assert_eq!((servers.len(), warnings.len()), (1, 1), "{entry}: {warnings:?}");
        assert_eq!(servers[0].name, "good");
        assert!(warnings[0].starts_with(".mcp.json: server \"s\": ") && warnings[0].contains(expected), "{warnings:?}");
    }
}

#[test]
fn invalid_names_cause_a_warning() {
    let long = "x".repeat(65);
    for name in ["", "..", "a/b", "{x}", "a b", "-x", &long, "é", "a\n", "%2e"] {
        let (servers, warnings) = one(name, r#"{"command":"true"}"#);
        assert_eq!((servers.len(), warnings.len()), (1, 1), "{name}");
    }
}

#[test]
fn a_named_pipe_does_not_block() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".mcp.json");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(file::read(&path).1, ["`.mcp.json: not a regular file, so it is not read".trim_start_matches('`')]);
}

#[test]
fn the_first_use_of_a_name_wins_and_there_is_a_limit() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    fs::write(&one, r#"{"mcpServers":{"s":{"command":"true"}}}"#).unwrap();
    fs::write(&two, r#"{"mcpServers":{"s":{"command":"false"}}}"#).unwrap();
    let (servers, warnings) = read_all([one.as_path(), two.as_path()]);
    assert_eq!(servers.len(), 1);
    assert_eq!(warnings, ["two: server \"s\": not served: the name is already used"]);
    let many: Vec<String> = (0..34).map(|number| format!(r#""s{number}":{{"command":"true"}}"#)).collect();
    let (servers, warnings) = read(format!(r#"{{"mcpServers":{{{}}}}}"#, many.join(",")).as_bytes());
    assert_eq!((servers.len(), warnings.len()), (32, 2));
    assert!(warnings[0].contains("not served: the limit is 32 servers"));
}
