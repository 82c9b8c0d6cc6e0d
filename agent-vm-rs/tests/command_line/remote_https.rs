//! Remote repositories over https, with a password: for `create --from URL` and for partial clones.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{Running, Site, which};

pub const PASSWORD: &str = "password-5a1e";

/// An https server of the test's repositories. Git trusts it by the variable that [`Server::variables`] has.
pub struct Server {
    pub url: String,
    certificate: PathBuf,
    log: PathBuf,
    _process: Running,
}

impl Server {
    pub fn new(site: &Site) -> Self {
        let [certificate, key, log] = ["certificate", "key", "log"].map(|name| site.path(name));
        let mut make = site.command(which("openssl").unwrap());
        let make = make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        let make = make.args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,DNS:public.example",
            "-days",
            "2",
        ]);
        let made = make.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null()).status();
        assert!(made.unwrap().success());
        let files = [site.root(), certificate.clone(), key];
        let (port, process) = serve(site, "serve_git.py", &files.map(|file| file.display().to_string()), &log);
        Self { url: format!("https://localhost:{port}"), certificate, log, _process: process }
    }

    pub fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut all = vec![("GIT_SSL_CAINFO", self.certificate.to_str().unwrap())];
        all.extend(more);
        all
    }

    /// Returns the users of the requests with the right password since the last call.
    pub fn users(&self) -> Vec<String> {
        let mut users: Vec<_> = std::fs::read_to_string(&self.log).unwrap().lines().map(str::to_owned).collect();
        File::create(&self.log).unwrap();
        users.dedup();
        users
    }
}

/// Starts a program of the tests that prints its port. Its stderr goes to `log`.
pub fn serve(site: &Site, program: &str, args: &[String], log: &Path) -> (String, Running) {
    let mut serve = site.command("/usr/bin/python3");
    serve.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command_line").join(program)).args(args);
    serve
        .env("AGENT_VM_TEST_PASSWORD", PASSWORD)
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(log).unwrap());
    let mut process = serve.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
    (port.trim().to_owned(), Running::new(process))
}

#[test]
fn a_machine_is_created_from_an_https_url_with_a_secret() {
    let site = Site::new();
    let server = Server::new(&site);
    let host = server.url.strip_prefix("https://").unwrap();
    let url = format!("{}/app", server.url);
    let create = |variables: &[(&str, &str)], args: &[&str]| {
        let args = [&["create", "--from", &url], args].concat();
        let done = site.run_with(&server.variables(variables), &args);
        done.does_not_say(PASSWORD)
    };
    let secret = format!("TOKEN={host}");
    create(&[], &[]).exits(1).gives_one_error().says(&format!("failed to fetch from {url}"));
    create(&[("TOKEN", "wrong")], &["--secret", &secret]).exits(1).gives_one_error();
    assert!(server.users().is_empty() && site.names().is_empty());
    create(&[("TOKEN", PASSWORD)], &["--secret", &secret]).ok();
    assert_eq!(server.users(), ["user x-access-token"]);
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(site.git_in(&workspace, &["rev-parse", "HEAD"]), site.git(&["rev-parse", "main"]));
    // The proxy of the machine has it in a file of its own.
    let kept = site.machine("app-main").join("egress/secrets.json");
    for file in walkdir::WalkDir::new(site.path("data")).into_iter().flatten().filter(|file| file.file_type().is_file())
    {
        let text = std::fs::read(file.path()).unwrap();
        let has = text.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
        assert_eq!(has, file.path() == kept, "{}", file.path().display());
    }
}

#[test]
fn a_partial_clone_is_filled_over_https() {
    let site = Site::new();
    let server = Server::new(&site);
    site.commit("file", "contents\n");
    site.git(&["config", "uploadpack.allowFilter", "true"]);
    site.git(&[
        "clone",
        "--quiet",
        "--filter=blob:none",
        "--no-checkout",
        &format!("file://{}", site.repo().display()),
        "../part",
    ]);
    let part = site.path("part");
    site.git_in(&part, &["config", "remote.origin.url", &format!("{}/app", server.url)]);
    let create = |variables: &[(&str, &str)]| {
        let mut create = site.agent_vm(&["create"]);
        create.current_dir(&part).envs(server.variables(variables));
        crate::support::Done::new("create".to_owned(), &create.output().unwrap())
    };
    create(&[]).exits(1).gives_one_error().says("failed to fetch from https://localhost");
    // The user's own credential helper has the password.
    let helper = format!("[credential]\n\tusername = me\n\thelper = \"!echo password={PASSWORD}; :\"\n");
    site.write("home/.gitconfig", helper);
    create(&[]).ok().says("is a partial clone; fetching");
    assert_eq!(server.users(), ["user me"]);
    assert_eq!(site.read(site.machine("part-main").join("workspace/file")), "contents\n");
}
