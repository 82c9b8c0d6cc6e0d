//! A machine on a host that has a proxy itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::egress::{HOST, holds, memory, serve, site_with_proxy};
use crate::site::{Done, Running, Site, wait_until};

const PASSWORD: &str = "kept-on-the-host-4e91";
/// No resolver of the host has it.
const NAME: &str = "served.invalid";

/// The host's proxy, which wants a password and notes what it is asked.
struct HostProxy {
    _server: Running,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HostProxy {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/egress/tests/host_proxy_stand_in.py");
        let mut server = Command::new("python3");
        server.args([script, &HOST.to_string(), "me", PASSWORD]).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.next().unwrap().parse().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || lines.for_each(|line| noted.lock().unwrap().push(line)));
        Self { _server: Running(server), port, asked }
    }

    /// Waits for the notes of as many requests, and forgets them.
    fn asked(&self, count: usize) -> Vec<String> {
        wait_until("the proxy's notes", || self.asked.lock().unwrap().len() >= count);
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn curl(site: &Site, args: &[&str]) -> Done {
    site.exec("main", &[&["curl", "--silent", "--show-error", "--max-time", "60", "--noproxy", ""], args].concat())
}

/// Returns whether the arguments or the environment of a process of the machine has a text.
fn any_process_has(site: &Site, text: &str, file: &str) -> bool {
    site.processes("app-main").into_iter().any(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        words.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn the_hosts_proxy_gets_what_the_rules_allow_and_the_guest_learns_nothing_of_it() {
    let Some(site) = site_with_proxy() else { return };
    let (host_proxy, port) = (HostProxy::start(), serve());
    let place = format!("{HOST}:{}", host_proxy.port);
    let (named, direct) = (format!("{NAME}:{port}"), format!("{HOST}:{port}"));
    site.create_with(&[
        "--allow",
        &named,
        "--allow",
        &direct,
        "--allow",
        &place,
        "--allow",
        &format!("out.invalid:{port}"),
    ]);
    let args = ["start", "main"];
    let mut start = site.agent_vm(&args);
    start.env("HTTPS_PROXY", format!("http://me:{PASSWORD}@{place}")).env("NO_PROXY", "localhost,out.invalid");
    Done::from(start.output().unwrap(), &args).ok();

    assert_eq!(curl(&site, &[&format!("http://{named}/")]).ok().stdout, "hello");
    assert_eq!(curl(&site, &["--proxytunnel", &format!("http://{named}/")]).ok().stdout, "hello");
    assert_eq!(
        host_proxy.asked(2),
        [format!("GET http://{named}/ with password"), format!("CONNECT {named} with password"),]
    );
    // A listed address of the host is the host's own, and NO_PROXY is left out: it is looked up here, in vain.
    assert_eq!(curl(&site, &[&format!("http://{direct}/")]).ok().stdout, "hello");
    let said = curl(&site, &[&format!("http://out.invalid:{port}/")]).ok().stdout;
    assert!(said.contains("host name"), "{said}");
    // Refused names, and the proxy itself, although the list has it.
    for refused in ["http://refused.invalid/", "http://served.invalid/", &format!("http://{place}/")] {
        assert!(curl(&site, &[refused]).ok().stdout.contains("is refused"), "{refused}");
        curl(&site, &["--proxytunnel", refused]).exits(56);
    }
    // A changed list keeps the proxy, whatever the environment is now.
    site.run(&["egress", "allow", "--branch", "main", &format!("added.invalid:{port}")]).ok();
    assert_eq!(curl(&site, &[&format!("http://added.invalid:{port}/")]).ok().stdout, "hello");
    assert_eq!(host_proxy.asked(1), [format!("GET http://added.invalid:{port}/ with password")]);

    // People read where it goes, and nobody the password.
    let shown = format!("http://{place}, except localhost, out.invalid");
    assert_eq!(site.status("main")["egress"]["host_proxy"], shown);
    let said = site.run(&["status", "main"]).ok().stdout + &site.run(&["egress", "list", "main"]).ok().stdout;
    assert_eq!(said.matches(&shown).count(), 2, "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    for file in ["cmdline", "environ"] {
        assert!(!any_process_has(&site, PASSWORD, file), "{file}");
    }
    // Control: the path of the rules is in the arguments of the egress proxy.
    assert!(any_process_has(&site, "rules.json", "cmdline"));
    let log = std::fs::read_to_string(site.machine("app-main").join("egress/log/egress.jsonl")).unwrap();
    assert!(log.contains(NAME) && !log.contains(PASSWORD), "{log}");
    // Control: the guest's memory has the name, in a file, because the memory of a program that ended is the host's again.
    site.exec("main", &["sh", "-c", &format!("echo {NAME} >/tmp/name")]).ok();
    assert_eq!(holds(&memory(&site), [PASSWORD, NAME]), [false, true]);
    site.run(&["stop", "main"]).ok();

    // Control: without the variables, the name leads nowhere. With a wrong password, the proxy refuses.
    site.start("main");
    assert!(curl(&site, &[&format!("http://{named}/")]).ok().stdout.contains("host name"));
    assert!(site.status("main")["egress"]["host_proxy"].is_null());
    site.run(&["stop", "main"]).ok();
    site.run(&["set", "main", &format!("host_proxy=http://me@{place}")]).ok();
    site.start("main");
    let said = curl(&site, &[&format!("http://{named}/")]).ok().stdout;
    assert!(said.contains("the host's proxy refused the connection (407)"), "{said}");
    assert_eq!(host_proxy.asked(1), [format!("GET http://{named}/ without password")]);
}
