//! `metrics` and `stats`, of machines that do not run and of one that starts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt as _;
use std::process::Stdio;

use rustix::process::Signal;

use crate::guest_services::running;
use crate::stand_ins::{STAYS, create, install};
use crate::support::{Running, Site, skip, wait_until, which};

#[test]
fn machines_have_metrics_in_both_formats() {
    let site = Site::new();
    site.create("main");
    site.create("dev");
    let prometheus = site.run(&["metrics"]).ok();
    prometheus
        .prints("agent_vm_machine_state{machine=\"app-main\",state=\"stopped\"} 1\n")
        .prints("agent_vm_machine_state{machine=\"app-dev\",state=\"running\"} 0\n")
        .prints("# TYPE agent_vm_build_info gauge\n");
    let open = site.run(&["metrics", "--format", "openmetrics"]).ok();
    open.prints("# UNIT agent_vm_machine_memory_limit_bytes bytes\n").prints("\n# EOF\n");
    std::fs::write(site.machine("app-dev").join("config.json"), "{").unwrap();
    site.run(&["metrics"]).ok().prints("agent_vm_machine_state{machine=\"app-dev\",state=\"broken\"} 1\n");
    site.run(&["metrics", "--json"]).exits(2).gives_one_error();
}

#[test]
fn a_textfile_is_replaced_and_readable_by_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    site.create("main");
    site.write("agent-vm.prom", "old");
    site.run_in(site.root(), &["metrics", "--textfile", "agent-vm.prom"]).ok();
    assert!(site.read("agent-vm.prom").starts_with("# HELP agent_vm_build_info "));
    let mode = std::fs::metadata(site.path("agent-vm.prom")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    site.run_in(site.root(), &["metrics", "--textfile", "none/agent-vm.prom"]).exits(1).gives_one_error();
    // A device or a pipe is not replaced by a file.
    let pipe = site.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    site.run(&["metrics", "--textfile", pipe.to_str().unwrap()])
        .exits(1)
        .gives_one_error()
        .says("is a named pipe, and");
    assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    site.run_in(site.root(), &["metrics", "--textfile", "x", "--listen", "0"]).exits(2).gives_one_error();
}

/// The watcher counts what wakes the machine, without such queries, as use of it.
#[test]
fn every_query_of_our_own_is_counted() {
    let (site, _services) = running();
    let queries = || site.machine("app-main").join("run/queries").metadata().map_or(0, |found| found.len());
    let asks = |words: &[&str]| {
        let before = queries();
        site.run(words).ok();
        // The begin and the end of each.
        (queries() - before) / 2
    };
    assert_eq!((asks(&["metrics"]), asks(&["stats"]), asks(&["status"]), asks(&["start"])), (1, 1, 1, 1));
    // Control: these ask the machine nothing.
    assert_eq!((asks(&["metrics", "--host-only"]), asks(&["list"])), (0, 0));
}

/// Sends a request and returns the whole response.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// Starts a server on a free port; returns its address, too.
fn serve(site: &Site) -> (Running, String) {
    let mut server = site.agent_vm(&["metrics", "--listen", "0"]);
    let log = std::fs::File::create(site.path("log")).unwrap();
    let server = Running::new(server.stderr(log).stdout(Stdio::null()).spawn().unwrap());
    let says = || site.read("log");
    wait_until("the server", || says().contains("/metrics"));
    let address = says().split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{}", says());
    (server, address)
}

#[test]
fn metrics_are_served_until_a_signal() {
    let site = Site::new();
    site.create("main");
    let (server, address) = serve(&site);
    let host = format!("Host: {address}");
    let found = ask(&address, &format!("GET /metrics HTTP/1.1\r\n{host}"));
    assert!(found.starts_with("HTTP/1.1 200") && found.contains("agent_vm_machine_state{"), "{found}");
    assert!(found.contains("text/plain; version=0.0.4") && !found.contains("# EOF"), "{found}");
    let found = ask(&address, &format!("GET /metrics HTTP/1.1\r\n{host}\r\nAccept: application/openmetrics-text"));
    assert!(found.contains("application/openmetrics-text") && found.contains("# EOF"), "{found}");
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{host}"), 404),
        (format!("POST /metrics HTTP/1.1\r\n{host}\r\nContent-Length: 0"), 405),
        ("GET /metrics HTTP/1.1\r\nHost: evil.test".to_owned(), 403),
        ("no request".to_owned(), 400),
    ] {
        let found = ask(&address, &request);
        assert!(found.starts_with(&format!("HTTP/1.1 {status}")) && !found.contains("agent_vm_"), "{found}");
    }
    // The address is in use.
    site.run(&["metrics", "--listen", &address]).exits(1).gives_one_error().says("cannot serve metrics on 127.0.0.1:");
    server.signal(Signal::TERM);
    assert!(server.output().status.success());
}

#[test]
fn other_addresses_than_loopback_are_refused() {
    let site = Site::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9477"] {
        site.run(&["metrics", "--listen", address]).exits(2).gives_one_error().says("on loopback only");
    }
}

#[test]
fn clients_that_read_or_write_nothing_block_no_other() {
    let site = Site::new();
    for number in 0..300 {
        std::fs::create_dir_all(site.machine(&format!("app-{number}"))).unwrap();
    }
    let (server, address) = serve(&site);
    // One sends nothing, one a header without an end, and the others take nothing.
    let mut clients: Vec<_> = (0..6).map(|_| TcpStream::connect(&address).unwrap()).collect();
    drop(clients[1].write_all(&[b'x'; 1 << 10]));
    for client in &mut clients[2..] {
        rustix::net::sockopt::set_socket_recv_buffer_size(&*client, 1).unwrap();
        write!(client, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    }
    let found = ask(&address, &format!("GET /metrics HTTP/1.1\r\nHost: {address}"));
    assert!(found.starts_with("HTTP/1.1 200") && found.contains("agent_vm_machine_state{"), "{found}");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nX: {}", "x".repeat(16 << 10));
    assert!(ask(&address, &long).starts_with("HTTP/1.1 431"));
    server.signal(Signal::TERM);
    assert!(server.output().status.success());
}

#[test]
fn stats_show_machines_that_run_and_those_that_do_not() {
    let site = Site::new();
    install(&site, STAYS);
    create(&site, "main");
    site.run(&["stats"]).ok().prints("MACHINE").prints("app-main  stopped");
    let _start = site.spawn(&["start"]);
    let facts = site.machine("app-main").join("run/ports.json");
    wait_until("QEMU", || facts.exists());
    site.run(&["stats", "main"]).ok().prints("app-main  starting");
    let json = site.run(&["stats", "--json"]).ok().json();
    assert_eq!((json[0]["state"].as_str(), json[0]["failed"].as_bool()), (Some("starting"), Some(false)));
    site.run(&["metrics", "--host-only"])
        .ok()
        .prints("agent_vm_machine_state{machine=\"app-main\",state=\"starting\"} 1\n")
        .prints("agent_vm_machine_helper_up{machine=\"app-main\",helper=\"QEMU\"} 1\n")
        .prints("agent_vm_machine_start_time_seconds{machine=\"app-main\"} ");
    site.run(&["stats", "none"]).exits(1).gives_one_error();
    site.run(&["stats", "--watch"]).exits(2).gives_one_error().says("--watch needs a terminal");
    site.run(&["stats", "--watch", "--json"]).exits(2).gives_one_error().says("agent-vm stats --json");
}

/// The table has a screen of its own, and the terminal is as before once a key has ended it.
#[test]
fn watched_stats_follow_new_machines_and_leave_the_terminal_as_it_was() {
    let site = Site::new();
    site.create("main");
    let Some(script) = which("script") else {
        skip("no script(1) to make a terminal");
        return;
    };
    let mut command = site.command(script);
    command.env("SHELL", site.path("bin/sh")).args(["--quiet", "--return", "--command"]);
    command.arg(format!("'{}' stats --watch", env!("CARGO_BIN_EXE_agent-vm"))).arg("/dev/null");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut typed, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = String::new();
    let mut read_until = |name: &str| {
        while !text.contains(name) {
            let mut bytes = [0; 4096];
            let read = shown.read(&mut bytes).unwrap();
            assert!(read > 0, "{name} is not in {text}");
            text += &String::from_utf8_lossy(&bytes[..read]);
        }
    };
    read_until("\x1b[?1049h");
    read_until("app-main");
    site.create("dev");
    read_until("app-dev");
    typed.write_all(b"\x03").unwrap();
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.contains("\x1b[?25h\x1b[?1049l") && !rest.contains("error"), "{rest}");
}
