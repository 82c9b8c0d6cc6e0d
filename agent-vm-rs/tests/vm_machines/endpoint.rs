//! Access to a machine's MCP endpoint: which requests are admitted and which are refused.

use std::fs;
use std::process::Command;

use crate::site::{Done, Site, site};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

/// The MCP endpoint of `main`, used with curl.
struct Endpoint<'a> {
    site: &'a Site,
    url: String,
    token: String,
}

impl<'a> Endpoint<'a> {
    fn of(site: &'a Site) -> Self {
        let url = site.status("main")["mcp"]["url"].as_str().unwrap().to_owned();
        let token = fs::read_to_string(site.machine("app-main").join("tls/token")).unwrap().trim().to_owned();
        Self { site, url, token }
    }

    fn curl(&self, args: &[&str]) -> Done {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]).args(args);
        Done::from(curl.output().unwrap(), args)
    }

    /// Sends `initialize` and verifies the server with the machine's own certificate authority.
    fn initialize(&self, args: &[&str]) -> Done {
        let ca = self.site.machine("app-main").join("tls/ca.pem");
        let asks = [
            &["--cacert", ca.to_str().unwrap()][..],
            &["--header", "Accept: application/json, text/event-stream", "--header", "Content-Type: application/json"],
            &["--data", INITIALIZE],
            args,
        ]
        .concat();
        self.curl(&[&asks[..], &[&self.url]].concat())
    }

    /// Returns the certificate that is served.
    fn certificate(&self) -> String {
        let address = self.url.trim_start_matches("https://").trim_end_matches("/mcp").to_owned();
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &address, "-showcerts"]).stdin(std::process::Stdio::null());
        let said = String::from_utf8_lossy(&openssl.output().unwrap().stdout).into_owned();
        // The output after the certificate describes the handshake, which differs each time.
        let (_, certificate) = said.split_once("-----BEGIN CERTIFICATE-----").unwrap();
        certificate.split_once("-----END CERTIFICATE-----").unwrap().0.to_owned()
    }

    /// Returns the HTTP status of `initialize` without a token.
    fn status(&self, args: &[&str]) -> String {
        self.initialize(&[&["--output", "/dev/null", "--write-out", "%{http_code}"], args].concat()).stdout
    }

    /// Returns the HTTP status of `initialize` with the token.
    fn status_with_token(&self, args: &[&str]) -> String {
        let bearer = format!("Authorization: Bearer {}", self.token);
        self.status(&[&["--header", &bearer][..], args].concat())
    }
}

/// The token, the host name and the origin each have to be right.
pub fn token_host_and_origin_are_checked(site: &Site) {
    let endpoint = Endpoint::of(site);
    // Control: everything is right.
    assert_eq!(endpoint.status_with_token(&[]), "200");
    assert_eq!(endpoint.status(&[]), "401");
    let zeros = format!("Authorization: Bearer {}", "0".repeat(64));
    let cut = format!("Authorization: Bearer {}", &endpoint.token[1..]);
    let basic = format!("Authorization: Basic {}", endpoint.token);
    for wrong in [&zeros, &cut, &basic] {
        assert_eq!(endpoint.status(&["--header", wrong]), "401", "{wrong}");
    }
    for (host, status) in [("localhost:1", "200"), ("example.org", "421"), ("127.0.0.1.example.org:8000", "421")] {
        assert_eq!(endpoint.status_with_token(&["--header", &format!("Host: {host}")]), status, "{host}");
    }
    for (origin, status) in [("https://claude.ai", "200"), ("https://example.org", "403"), ("null", "403")] {
        assert_eq!(endpoint.status_with_token(&["--header", &format!("Origin: {origin}")]), status, "{origin}");
        let preflight = ["--request", "OPTIONS", "--header", "Access-Control-Request-Method: POST", "--header"];
        let asked = endpoint.status(&[&preflight[..], &[&format!("Origin: {origin}")]].concat());
        let answered = if status == "200" { "204" } else { status };
        assert_eq!(asked, answered, "preflight request from {origin}");
    }
    let other = endpoint.url.replace("/mcp", "/docs");
    let ca = site.machine("app-main").join("tls/ca.pem");
    let bearer = format!("Authorization: Bearer {}", endpoint.token);
    let asked = ["--cacert", ca.to_str().unwrap(), "--header", &bearer, "--write-out", "%{http_code}", &other];
    assert!(endpoint.curl(&asked).ok().stdout.ends_with("404"));
}

/// Only TLS 1.2 and 1.3 with the machine's own certificate are accepted. There is another machine, `app-other`. Returns the
/// certificates that were served.
pub fn only_current_tls_is_accepted(site: &Site) -> [String; 2] {
    let endpoint = Endpoint::of(site);
    // curl would accept the old versions: the machine refuses them.
    for (version, code) in [("1.3", "200"), ("1.2", "200"), ("1.1", "000"), ("1.0", "000")] {
        let args = [&format!("--tlsv{version}"), "--tls-max", version, "--ciphers", "ALL:@SECLEVEL=0"];
        assert_eq!(endpoint.status_with_token(&args), code, "TLS {version}");
    }
    let plain = endpoint.url.replace("https://", "http://");
    let bearer = format!("Authorization: Bearer {}", endpoint.token);
    let said =
        endpoint.curl(&["--header", &bearer, "--data", INITIALIZE, "--write-out", "%{http_code}", &plain]).ok().stdout;
    assert!(said.ends_with("400") && !said.contains("serverInfo"), "{said}");

    let foreign = site.machine("app-other").join("tls/ca.pem");
    endpoint.curl(&["--cacert", foreign.to_str().unwrap(), "--header", &bearer, &endpoint.url]).exits(60);
    // agent-vm trusts no other authority either, and has no option to skip the check.
    let ca = site.machine("app-main").join("tls/ca.pem");
    let own = fs::read(&ca).unwrap();
    fs::copy(&foreign, &ca).unwrap();
    assert_eq!(site.status("main")["mcp"]["responds"], false);
    fs::write(&ca, own).unwrap();
    assert_eq!(site.status("main")["mcp"]["responds"], true);

    let first = endpoint.certificate();
    // After months, the certificate is renewed for the same key, without a restart.
    let ports = site.machine("app-main").join("run/ports.json");
    let mut facts: serde_json::Value = serde_json::from_str(&fs::read_to_string(&ports).unwrap()).unwrap();
    let months_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 61);
    facts["started"] = months_ago.to_string().into();
    fs::write(&ports, facts.to_string()).unwrap();
    site.run(&["mcp", "main"]).ok();
    let renewed = endpoint.certificate();
    assert_ne!(renewed, first);
    assert_eq!(endpoint.status_with_token(&[]), "200");
    site.exec("main", &["systemctl", "is-active", "agent-mcp-gate.service"]).ok();
    site.run(&["mcp", "main"]).ok();
    assert_eq!(endpoint.certificate(), renewed);
    [first, renewed]
}

/// After another start: each run has a certificate of its own. `former` are those of the first one.
pub fn each_run_has_a_certificate(site: &Site, former: &[String]) {
    let endpoint = Endpoint::of(site);
    assert!(!former.contains(&endpoint.certificate()));
    assert_eq!(endpoint.status_with_token(&[]), "200", "the token and the authority are the machine's, not the run's");
}

/// Neither the agent nor any process that it starts can read the reverse proxy's credentials.
pub fn the_agent_cannot_read_key_or_token(site: &Site) {
    let said = |command: &str| site.exec("main", &["sh", "-c", command]);
    let account = said("ps -o user:20= -C nginx | sort -u").ok().stdout;
    assert_eq!(account.trim(), "agent-gate");
    let fw_cfg = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";
    // Control: the credentials exist.
    said(&format!("ls {fw_cfg}")).ok().says("agent-vm.mcp-key").says("agent-vm.mcp-token");
    for path in [
        &format!("{fw_cfg}/agent-vm.mcp-key/raw"),
        &format!("{fw_cfg}/agent-vm.mcp-token/raw"),
        "/run/agent-mcp-gate/nginx.conf",
        "/run/credentials/agent-mcp-gate.service/agent-vm.mcp-key",
        "/run/credentials/@system/agent-vm.mcp-token",
        "/proc/$(pgrep -o nginx)/environ",
        "/proc/$(pgrep -o nginx)/mem",
    ] {
        assert_ne!(said(&format!("cat {path}")).says("Permission denied").code, Some(0), "{path}");
    }
    let token = fs::read_to_string(site.machine("app-main").join("tls/token")).unwrap();
    let everywhere =
        "cat /proc/*/cmdline /proc/*/environ 2>/dev/null; journalctl --no-pager --output=export 2>/dev/null";
    let seen = said(everywhere).stdout;
    assert!(seen.contains("nginx") && !seen.contains(token.trim()));
    // The server behind the reverse proxy runs as the agent, and does not get the token either.
    said("curl --silent --max-time 20 http://127.0.0.1:8001/status").ok();
    assert_eq!(said("curl --silent --insecure --max-time 20 --write-out '%{http_code}' --output /dev/null https://127.0.0.1:8000/status").ok().stdout, "401");
    // From outside, only the reverse proxy is reached; see `isolation` for the firewall. The egress port exists only if
    // there is a proxy.
    let listening = said("ss -Htln | awk '{ print $4 }' | sort | grep -vx 127.0.0.1:3128").ok().stdout;
    assert_eq!(listening, "0.0.0.0:22\n0.0.0.0:8000\n127.0.0.1:8001\n");
}

/// Disabled TLS or a disabled token is reported at every start and by `status`, and the other protection still works.
#[test]
fn tls_and_auth_are_disabled_separately() {
    let Some(site) = site() else { return };
    let create = |flag: &str| site.create_with(&["--branch", "main", flag]);
    let warning = "warning: MCP is not encrypted (--no-tls)";
    create("--no-tls").says(warning);
    site.start("main").says(warning).says("MCP     http://127.0.0.1:");
    let endpoint = Endpoint::of(&site);
    assert_eq!((endpoint.status_with_token(&[]), endpoint.status(&[])), ("200".to_owned(), "401".to_owned()));
    assert_eq!(endpoint.status_with_token(&["--header", "Host: example.org"]), "421");
    site.run(&["status", "main"]).ok().says("no TLS: anyone on the network path can read it, with a token");
    let status = site.status("main");
    assert_eq!((&status["mcp"]["tls"], &status["mcp"]["auth"]), (&false.into(), &true.into()));
    site.run(&["destroy", "main", "--yes"]).ok();

    let warning = "warning: MCP requires no token (--no-auth)";
    create("--no-auth").says(warning);
    site.start("main").says(warning).says("MCP     https://127.0.0.1:");
    let endpoint = Endpoint::of(&site);
    // MCP itself answers without a token, and also with a wrong one.
    endpoint.initialize(&[]).ok().says("serverInfo");
    let zeros = format!("Authorization: Bearer {}", "0".repeat(64));
    assert_eq!(endpoint.status(&["--header", &zeros]), "200");
    for (header, status) in [
        ("Origin: https://claude.ai", "200"),
        ("Origin: https://example.org", "403"),
        ("Origin: null", "403"),
        ("Host: localhost:1", "200"),
        ("Host: example.org", "421"),
    ] {
        assert_eq!(endpoint.status(&["--header", header]), status, "{header}");
    }
    let plain = endpoint.url.replace("https://", "http://");
    assert!(!endpoint.curl(&["--data", INITIALIZE, &plain]).ok().stdout.contains("serverInfo"));
    site.run(&["status", "main"]).ok().says("no token: anyone who can connect may use it");
    let status = site.status("main");
    assert_eq!((&status["mcp"]["tls"], &status["mcp"]["auth"]), (&true.into(), &false.into()));
}
