//! The guest's egress: what is refused, what is allowed, and what is logged.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::package_managers::PACKAGES;
use crate::site::{Done, Running, Site, site, skip};
use crate::world::{OWN, PUBLIC, World};

/// Not 127.0.0.1: programs in the guest do not use a proxy for that address.
pub const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Starts a service of the host that answers every request with "hello"; returns its port.
pub fn serve() -> u16 {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            // A connection without a request gets no answer.
            if stream.read(&mut request).is_ok_and(|length| length > 0) {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    port
}

/// Returns a site; None, with the test reported as skipped, if mitmproxy is missing.
pub fn site_with_proxy() -> Option<Site> {
    let found = Command::new("mitmdump").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        skip("mitmproxy is not installed");
        return None;
    }
    site()
}

/// Returns the port of a machine's proxy on the host.
fn proxy_port(site: &Site) -> String {
    let commands =
        site.processes("app-main").into_iter().filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
    let words = commands.flat_map(|words| words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let texts = words.filter_map(|word| String::from_utf8(word).ok());
    texts.filter_map(|word| Some(word.strip_prefix("listen_port=")?.to_owned())).next().unwrap()
}

fn curl(site: &Site, args: &[&str]) -> Done {
    site.exec("main", &[&["curl", "--silent", "--show-error", "--max-time", "60"], args].concat())
}

#[test]
fn only_listed_hosts_are_reached_and_changes_apply_at_once() {
    let Some(site) = site_with_proxy() else { return };
    let port = serve();
    let url = format!("http://{HOST}:{port}/");
    site.create_with(&["--allow", "listed.invalid"]);
    site.start("main");

    let refused = curl(&site, &[&url]).ok().stdout;
    assert!(refused.contains(&format!("agent-vm egress allow --branch app-main {HOST}:{port}")), "{refused}");
    // Connections that bypass the proxy fail with every address family, and no name is resolved.
    curl(&site, &["--noproxy", "*", &url]).exits(7);
    curl(&site, &["--noproxy", "*", "http://[2001:db8::1]/"]).exits(7);
    curl(&site, &["--noproxy", "*", "http://listed.invalid/"]).exits(6);
    assert_eq!(site.exec("main", &["ip", "-6", "route"]).ok().stdout, "");
    // Refused, too: metadata services, the host's other names, and a listed host on another port.
    for target in ["169.254.169.254", "localhost", "10.0.2.2", "[::1]", "listed.invalid:22"] {
        let said = curl(&site, &["--noproxy", "", &format!("http://{target}/")]).ok().stdout;
        assert!(said.contains("is refused"), "{target}: {said}");
    }
    let status = site.status("main");
    assert_eq!((&status["egress"]["up"], &status["egress"]["denied"]), (&true.into(), &6.into()), "{status}");
    let log = site.run(&["egress", "log", "main", "--denied", "--json"]).ok().json();
    assert_eq!(log.as_array().unwrap().len(), 6, "{log}");
    assert_eq!(log[0]["host"], HOST.to_string());

    // Another user of this host is refused. Control: the account that carries the tunnel gets the proxy's answer.
    if rustix::process::geteuid().is_root() {
        let asks = |uid: u32| {
            let proxy = format!("http://127.0.0.1:{}", proxy_port(&site));
            let mut curl = Command::new("setpriv");
            curl.arg(format!("--reuid={uid}")).args(["curl", "--silent", "--max-time", "60", "--proxy", &proxy]);
            curl.args(["--output", "/dev/null", "http://other.invalid/"]).status().unwrap().success()
        };
        let rules = std::fs::read_to_string(site.machine("app-main").join("egress/rules/rules.json")).unwrap();
        let rules: serde_json::Value = serde_json::from_str(&rules).unwrap();
        let tunnel = rules["peer_uid"].as_u64().unwrap().try_into().unwrap();
        assert!(asks(tunnel));
        assert!(!asks(65534));
    } else {
        skip("only root asks as another user");
    }

    // Control: the host is reached as soon as it is listed, and no longer than that.
    let destination = format!("{HOST}:{port}");
    site.run(&["egress", "allow", "--branch", "main", &destination]).ok();
    assert_eq!(curl(&site, &[&url]).ok().stdout, "hello");
    site.run(&["egress", "deny", "--branch", "main", &destination]).ok();
    assert!(curl(&site, &[&url]).ok().stdout.contains("is refused"));

    // A proxy that ends is started again.
    site.run(&["egress", "allow", "--branch", "main", &destination]).ok();
    let directory = format!("agent_vm_dir={}", site.machine("app-main").join("egress").display());
    for pid in site.processes("app-main") {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if words.split(|byte| *byte == 0).any(|word| word == directory.as_bytes()) {
            crate::site::kill(pid, "KILL");
        }
    }
    crate::site::wait_until("the proxy to come back", || curl(&site, &["--fail", &url]).stdout == "hello");
    site.run(&["stop", "main"]).ok();
    assert!(site.processes("app-main").is_empty());
}

/// An HTTPS server on the host that echoes its requests.
struct Echo {
    _server: Running,
    port: u16,
}

fn echo(dir: &Path) -> Echo {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm_machines/tls_echo.py");
    let mut server =
        Command::new("python3").arg(script).arg(dir).arg(HOST.to_string()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Echo { _server: Running(server), port: line.trim().parse().unwrap() }
}

/// Returns for each text whether a file contains it.
pub fn holds(file: &Path, texts: [&str; 2]) -> Vec<bool> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm_machines/find_in_memory.py");
    let output = Command::new("python3").arg(script).arg(file).args(texts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line == "yes").collect()
}

/// Returns the file of a running guest's memory.
pub fn memory(site: &Site) -> PathBuf {
    let files = std::fs::read_dir(format!("/proc/{}/fd", site.qemu("app-main"))).unwrap();
    let is_memory = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("memfd:memory-backend-memfd"))
    };
    files.flatten().map(|entry| entry.path()).find(is_memory).unwrap()
}

const NODE: &str = "
const [host, port] = process.argv.slice(1);
const proxy = new URL(process.env.https_proxy);
const connect = require('http').request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${host}:${port}` });
connect.on('connect', (_, socket) => {
  const secured = require('tls').connect({ socket, host }, () => { console.log('accepted'); process.exit(0); });
  secured.on('error', (error) => { console.log(error.code); process.exit(1); });
});
connect.end();
";

#[test]
fn monitor_decrypts_tls_and_secrets_stay_on_the_host() {
    let Some(site) = site_with_proxy() else { return };
    let dir = tempfile::tempdir().unwrap();
    let echo = echo(dir.path());
    let (destination, url) = (format!("{HOST}:{}", echo.port), format!("https://{HOST}:{}/asked?for=it", echo.port));
    let secret = format!("TOKEN={destination}");
    let args = ["--egress", "monitor", "--allow", &destination, "--secret", &secret, "--package", PACKAGES];
    let value = "kept-on-the-host-7d1f";
    let made = site.creates(&args).env("TOKEN", value).output().unwrap();
    Done::from(made, &["create"]).ok();
    let mut start = site.agent_vm(&["start", "main"]);
    let started = start.env("SSL_CERT_FILE", dir.path().join("ca.pem")).output().unwrap();
    Done::from(started, &["start"]).ok();

    // Every client trusts the proxy, each through its own configuration.
    curl(&site, &["--fail", &url]).ok();
    let python = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status)";
    assert_eq!(site.exec("main", &["python3", "-c", python, &url]).ok().stdout, "200\n");
    let port = echo.port.to_string();
    assert_eq!(site.exec("main", &["node", "-e", NODE, &HOST.to_string(), &port]).ok().stdout, "accepted\n");
    site.exec("main", &["git", "ls-remote", &format!("https://{destination}/git")]).exits(128).says("not found");
    // It works without the environment variables, too: the system's certificate file has the authority.
    site.exec("main", &["env", "-i", "https_proxy=http://127.0.0.1:3128", "curl", "-sSf", &url]).ok();
    // Control: with another authority, the client refuses the proxy's certificate.
    curl(&site, &["--cacert", "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt", &url]).exits(60);
    let log = site.run(&["egress", "log", "main", "--json"]).ok().json();
    let asked = log.as_array().unwrap().iter().find(|line| line["path"] == "/asked?for=it").unwrap();
    assert_eq!((&asked["method"], &asked["status"], &asked["verdict"]), (&"GET".into(), &200.into(), &"allow".into()));
    assert!(asked["bytes"].as_u64().unwrap() > 0 && asked["time"].as_str().unwrap().ends_with('Z'), "{asked}");

    // The server gets the secret's value; the guest sees only the placeholder, also in the echoed answer.
    let ask = format!("curl -sSf -H \"Authorization: Bearer $TOKEN\" {url} | tee /tmp/answer; echo; echo $TOKEN");
    let said = site.exec("main", &["sh", "-c", &ask]).ok().stdout;
    let placeholder = said.lines().last().unwrap();
    let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
    assert!(seen.contains(&format!("Bearer {value}")) && !seen.contains(placeholder), "{seen}");
    assert!(said.contains(&format!("Bearer {placeholder}")) && !said.contains(value), "{said}");
    // Control: the audit log has the request.
    for (file, has) in [("egress/log/egress.jsonl", "/asked?for=it"), ("run/egress.log", ""), ("run/console.log", "")] {
        let log = std::fs::read_to_string(site.machine("app-main").join(file)).unwrap();
        assert!(log.contains(has) && !log.contains(value), "{file}: {log}");
    }
    let journal = site.exec("main", &["journalctl", "--no-pager", "--output=export"]).ok().stdout;
    assert!(journal.contains("agent-mcp") && !journal.contains(value), "{journal}");

    // The value is not in the guest's memory. Control: the placeholder is.
    assert_eq!(holds(&memory(&site), [value, placeholder]), [false, true]);
    // Nor is it on the guest's disk. Control: a file with the placeholder is.
    site.exec("main", &["sh", "-c", "cp /tmp/answer ~/answer && sync"]).ok();
    site.run(&["stop", "main"]).ok();
    assert_eq!(holds(&site.machine("app-main").join("disk.qcow2"), [value, placeholder]), [false, true]);
}

/// Changes the egress mode in the rules of the running proxy, which agent-vm writes again with the next change of a list. A
/// restart has the same effect, and takes longer.
fn set_mode(site: &Site, mode: &str) {
    let file = site.machine("app-main").join("egress/rules/rules.json");
    let mut rules: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    rules["mode"] = mode.into();
    std::fs::write(&file, rules.to_string()).unwrap();
}

/// Returns the logged verdicts and reasons for a host, newest last.
fn logged(site: &Site, host: &str) -> Vec<(String, Option<String>)> {
    let log = site.run(&["egress", "log", "main", "--json"]).ok().json();
    let word = |line: &serde_json::Value, key: &str| line[key].as_str().map(str::to_owned);
    let lines = log.as_array().unwrap().iter().filter(|line| line["host"] == host);
    lines.map(|line| (word(line, "verdict").unwrap(), word(line, "reason"))).collect()
}

/// Runs in a network of its own, where the public site is neither this host's nor the Internet's.
#[test]
fn each_egress_mode_allows_only_its_hosts() {
    let Some(site) = site_with_proxy() else { return };
    if !rustix::process::geteuid().is_root() {
        skip("only root makes networks");
        return;
    }
    // A host of the group @npm, a host on no list, and a host whose name resolves to the test host's own address.
    let (listed, other, own) = ("registry.npmjs.org", "other.example.net", "own.example.net");
    let site = site.within(World::new(&[(listed, PUBLIC), (other, PUBLIC), (own, OWN)]));
    site.create_with(&["--egress", "none", "--allow", "@npm"]);
    site.start("main");
    let get = |host: &str| curl(&site, &["--noproxy", "", &format!("http://{host}/")]).ok().stdout;
    let denied = || site.status("main")["egress"]["denied"].as_u64().unwrap();

    // In mode `none` the lists are ignored, and so are changes to them.
    let none = "is refused (egress is off for this machine)";
    assert!(get(listed).contains(none));
    site.run(&["egress", "allow", "--branch", "main", other]).ok().says("allow and deny lists are ignored");
    assert!(get(other).contains(none));
    assert_eq!((denied(), logged(&site, listed).len()), (2, 1));

    // Control: in mode `allowlist` the same machine reaches the listed host, and no other.
    set_mode(&site, "allowlist");
    site.run(&["egress", "deny", "--branch", "main", other]).ok();
    assert_eq!(get(listed), "hello");
    assert!(get(&PUBLIC.to_string()).contains("not on the allow list"));
    assert!(get(other).contains("on the deny list"));
    site.run(&["egress", "deny", "--branch", "main", "@npm"]).ok();
    assert!(get(listed).contains("on the deny list"));
    assert_eq!(denied(), 5);

    // In mode `open`, a host on no list is reached and logged.
    set_mode(&site, "open");
    site.run(&["egress", "allow", "--branch", "main", other]).ok();
    assert_eq!(get(&PUBLIC.to_string()), "hello");
    assert_eq!(logged(&site, &PUBLIC.to_string()).last().unwrap(), &("allow".to_owned(), None));
    assert!(get(listed).contains("on the deny list"));
    // The host and its networks are refused, whatever name is used.
    let before = denied();
    let closed = ["127.0.0.1", "127.0.0.2", "localhost", "10.0.2.2", "169.254.169.254", &OWN.to_string()];
    for host in closed {
        let text = get(host);
        // The guest reads the same for each; the log has the kind.
        assert!(text.contains("is refused (a closed address)"), "{host}: {text}");
        assert_eq!(logged(&site, host).last().unwrap().0, "deny");
    }
    get(own);
    let is_refusal = |(verdict, reason): &(String, Option<String>)| {
        let reason = reason.as_deref().unwrap_or_default();
        verdict == "deny"
            && reason.starts_with("resolves to ")
            && reason.ends_with("an address of the host or its network")
    };
    assert!(logged(&site, own).iter().any(is_refusal), "{:?}", logged(&site, own));
    assert_eq!(denied(), before + 7);
}
