//! Tests of the launcher up to its execution of nginx.

use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ReverseProxyArgs,
}

const ARGUMENTS: [&str; 9] = [
    "--nginx=/usr/sbin/nginx",
    "--listen=0.0.0.0:8000",
    "--inner-port=8001",
    "--endpoint-credential=endpoint",
    "--certificate-credential=cert",
    "--key-credential=key",
    "--token-credential=token",
    "--renewal-path=/agent-vm/certificate",
    "--allow-origin=https://claude.ai",
];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for dir in [place.credentials(), place.runtime()] {
            fs::create_dir(dir).unwrap();
        }
        place.give("endpoint", r#"{"tls": true, "auth": true, "hosts": ["localhost"]}"#);
        place.give("cert", "c");
        place.give("key", "k");
        place.give("token", &format!("{TOKEN}\n"));
        place
    }

    fn credentials(&self) -> PathBuf {
        self.dir.path().join("credentials")
    }

    fn runtime(&self) -> PathBuf {
        self.dir.path().join("runtime")
    }

    fn give(&self, name: &str, text: &str) {
        fs::write(self.credentials().join(name), text).unwrap();
    }

    fn configure(&self) -> Result<PathBuf, Refused> {
        let line = Line::try_parse_from(["x"].iter().chain(&ARGUMENTS)).unwrap();
        configure(&line.args, &self.credentials(), &self.runtime())
    }

    fn refuses(&self, why: &str) {
        let error = self.configure().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains(&TOKEN[..8]), "{error}");
        assert!(!self.runtime().join("nginx.conf").exists());
    }
}

#[test]
fn the_configuration_is_private_and_can_be_replaced() {
    let place = Place::new();
    for _ in 0..2 {
        let path = place.configure().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o400);
        assert!(fs::read_to_string(path).unwrap().contains(TOKEN));
    }
}

#[test]
fn a_renewed_certificate_survives_a_restart_until_the_host_gives_another() {
    let place = Place::new();
    let current = place.runtime().join("certificate.pem");
    place.configure().unwrap();
    assert_eq!(fs::read(&current).unwrap(), b"c");
    fs::write(&current, "renewed").unwrap();
    place.configure().unwrap();
    assert_eq!(fs::read(&current).unwrap(), b"renewed");
    place.give("cert", "another");
    place.configure().unwrap();
    assert_eq!(fs::read(&current).unwrap(), b"another");
}

#[test]
fn missing_credentials_are_refused() {
    for (name, why) in [
        ("endpoint", "the credential endpoint is missing"),
        ("cert", "TLS is on"),
        ("key", "TLS is on"),
        ("token", "a token is required"),
    ] {
        let place = Place::new();
        fs::remove_file(place.credentials().join(name)).unwrap();
        place.refuses(why);
    }
}

#[test]
fn invalid_credentials_are_refused() {
    let (deep, long) = ("[".repeat(60_000), "x".repeat(1 << 17));
    for (name, text, why) in [
        ("endpoint", "{", "not valid JSON"),
        ("endpoint", deep.as_str(), "not valid JSON"),
        ("endpoint", long.as_str(), "too long"),
        ("endpoint", "null", "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": true, "hosts": ["a"]}"#, "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": "yes", "auth": true, "hosts": ["a"]}"#, "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": true, "auth": 1, "hosts": ["a"]}"#, "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": true, "auth": true, "hosts": "a"}"#, "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": true, "auth": true, "hosts": [1]}"#, "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": true, "auth": true, "hosts": ["a"], "more": 1}"#, "exactly tls, auth and hosts"),
        ("endpoint", r#"{"tls": true, "auth": true, "hosts": []}"#, "host names"),
        ("token", "é", "not ASCII text"),
        ("token", "", "invalid token"),
        ("token", &TOKEN[..20], "invalid token"),
    ] {
        let place = Place::new();
        place.give(name, text);
        place.refuses(why);
    }
}

#[test]
fn every_option_is_required_once() {
    // The last one can be repeated.
    for required in &ARGUMENTS[..ARGUMENTS.len() - 1] {
        let without = ARGUMENTS.into_iter().filter(|word| word != required);
        assert!(Line::try_parse_from(["x"].into_iter().chain(without)).is_err());
        let twice = ["x"].into_iter().chain(ARGUMENTS).chain([*required]);
        assert!(Line::try_parse_from(twice).is_err());
    }
    assert!(Line::try_parse_from(["x", "--more=1"].iter().chain(&ARGUMENTS)).is_err());
}
