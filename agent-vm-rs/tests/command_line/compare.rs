//! `agent-vm compare` with stand-ins for the servers of this host and of the machine, well-behaved and hostile.

use crate::guest_services::running;
use crate::support::Site;

/// An MCP server on its standard streams that answers as the stand-in in the machine does.
const TWIN: &str = r#"while read -r line; do
id=$(expr "$line" : '.*"id": *\([0-9]*\)')
method=$(expr "$line" : '.*"method": *"\([^"]*\)"')
case $method in
initialize) r='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"stand-in"}}';;
notifications/*) continue;;
extra) r='{"echo":"other \u001b[2J"}';;
*) r="{\"echo\":\"$method\"}";;
esac
[ -z "$asks" ] || { printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n'; read -r answer; echo "$answer" >>"$asks"; }
printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$r"
done"#;

fn twin(site: &Site) {
    site.stand_in("twin", TWIN);
}

#[test]
fn servers_that_answer_alike_are_the_same() {
    let (site, _services) = running();
    twin(&site);
    let asks = site.path("asks");
    let asking = format!("asks='{}'; export asks; exec twin", asks.display());
    site.run(&["compare", "--direct", &asking]).ok().prints("tools/list").prints("same");
    // Requests of a server get an answer.
    assert!(site.read("asks").contains("\"error\""), "{}", site.read("asks"));
    let all = site.run(&["compare", "main", "--direct", "exec twin", "--json"]).ok().json();
    assert_eq!((&all["same"], &all["name"]), (&true.into(), &"app-main".into()));
    let methods: Vec<_> =
        all["requests"].as_array().unwrap().iter().map(|one| one["request"].as_str().unwrap()).collect();
    assert_eq!(methods, ["initialize", "ping", "tools/list"]);
    assert!(all["requests"][0]["machine"]["milliseconds"].as_f64().unwrap() > 0.0);
    // Nothing is left running.
    assert!(!site.processes().iter().any(|(_, words)| words.contains("twin")));
}

#[test]
fn a_difference_is_printed_and_is_the_exit_code() {
    let (site, _services) = running();
    twin(&site);
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    let done = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let extra = r#"{"jsonrpc":"2.0","id":2,"method":"extra"}"#;
    site.write("app/session", format!("{hello}\n{done}\n{extra}\n"));
    let line = ["compare", "--direct", "exec twin", "--session", "session"];
    let shown = site.run(&line).exits(1).prints("1 difference").prints("/echo");
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
    let all = site.run(&[&line[..], &["--json"]].concat()).exits(1).json();
    assert_eq!(all["requests"][1]["differences"][0]["pointer"], "/echo");
    assert_eq!(all["requests"][1]["differences"][0]["machine"], "extra");
    site.run(&[&line[..], &["--ignore", "echo"]].concat()).ok();
    for (text, says) in
        [("", "is not a session"), ("no\n", "is not a session"), ("{\"id\":1}\n", "line 1 has no method")]
    {
        site.write("app/session", text);
        site.run(&line).exits(2).gives_one_error().says(says);
    }
}

#[test]
fn a_hostile_server_of_this_host_ends_the_comparison_of_a_request_only() {
    let (site, _services) = running();
    // Another run of this test may have its own.
    let child = format!("sleep 100173.{}", std::process::id());
    for (script, says) in [
        ("exec head -c 40000000 /dev/zero", "too long or not complete"),
        ("while :; do echo '{}'; done", "too many other messages"),
        ("echo no; exec sleep 1000", "no message"),
        ("exit 3", "ended"),
        ("exec sleep 1000", "no answer in time"),
        // It asks and asks, and reads no answer.
        ("while :; do echo '{\"id\":1,\"method\":\"ping\"}'; done", "reads no more"),
        // It ends, and its child does not.
        (&format!("{child} >/dev/null 2>&1 & exit 3"), "ended"),
    ] {
        // At its first request, there is nothing to compare.
        let first = site.run(&["--timeout", "2", "compare", "--json", "--direct", script]).exits(2);
        let first = first.gives_one_error().says("a server gave no answer to initialize of the session");
        assert!(first.stderr.contains(says) || first.stderr.contains("reads no more"), "{script}: {}", first.stderr);
        assert!(
            first.stderr.contains("caused by: direct: ") && !first.stderr.contains("machine: "),
            "{}",
            first.stderr
        );
        // Later, the answers to a request differ.
        site.stand_in(
            "later",
            &format!("{}\n{script}", TWIN.replace("-r line; do", "-r line; do [ -z \"$was\" ] || break; was=1")),
        );
        let all = site.run(&["--timeout", "2", "compare", "--json", "--direct", "exec later"]).exits(1).json();
        let error = all["requests"][1]["direct"]["error"].as_str().unwrap().to_owned();
        assert!(error.contains(says) || error.contains("reads no more"), "{script}: {error}");
        assert_eq!(all["requests"][1]["machine"]["answer"]["echo"], "ping");
    }
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| std::fs::read(entry.path().join("cmdline")));
    let words = format!("{}\0", child.replace(' ', "\0")).into_bytes();
    assert!(!all.flatten().any(|found| found == words), "a child is left running");
}

#[test]
fn without_servers_of_this_host_there_is_a_hint() {
    let (site, _services) = running();
    site.run(&["compare"]).exits(2).gives_one_error().says("agent-direct").says("--direct COMMAND");
    site.run(&["stop"]).ok();
    site.run(&["compare", "--direct", "exec twin"]).exits(2).gives_one_error();
}

/// A script takes exit code 1 for a difference.
#[test]
fn a_failure_is_no_difference() {
    let (site, _services) = running();
    site.run(&["compare", "--direct-url", "http://127.0.0.1:1/mcp"])
        .exits(2)
        .gives_one_error()
        .says("a server gave no answer to initialize of the session")
        .says("cannot reach http://127.0.0.1:1/mcp");
    let begun = site.path("begun");
    let direct = format!("touch '{}'; exec twin", begun.display());
    site.run(&["compare", "--direct", &direct, "--server", "nosuch"])
        .exits(2)
        .gives_one_error()
        .says("has no MCP server nosuch");
    assert!(!begun.exists(), "the program of this host was started");
    // Control.
    twin(&site);
    site.run(&["compare", "--direct", &direct]).ok();
    assert!(begun.exists());
}
