//! Whose rights `create --from URL` uses for submodules, with an https server that asks for a password.

use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::remote_https::{PASSWORD, Server, serve};
use crate::support::{Done, Site};

/// A repository whose submodules have the URLs of a test, and a library that they name.
struct Remote {
    site: Site,
    server: Server,
    commit: String,
}

impl Remote {
    /// Makes `team/app`, and the library in `team`, `other` and `public`.
    fn new() -> Self {
        let site = Site::new();
        let commit = site.git(&["rev-parse", "HEAD"]);
        for dir in ["team", "other", "public"] {
            fs::create_dir(site.path(dir)).unwrap();
            site.git(&["clone", "--quiet", "--bare", ".", &format!("../{dir}/lib")]);
        }
        site.git(&["clone", "--quiet", "--bare", ".", "../team/app"]);
        let server = Server::new(&site);
        Self { site, server, commit }
    }

    fn host(&self) -> &str {
        self.server.url.strip_prefix("https://").unwrap()
    }

    /// Creates a machine of a branch with the submodule `lib`, whose URL is given.
    fn create(&self, branch: &str, url: &str, variables: &[(&str, &str)], args: &[&str]) -> Done {
        let site = &self.site;
        site.git(&["checkout", "--quiet", "--force", "-B", branch, &self.commit]);
        site.write("app/.gitmodules", format!("[submodule \"{branch}\"]\n\tpath = lib\n\turl = {url}\n"));
        site.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},lib", self.commit)]);
        site.git(&["add", ".gitmodules"]);
        site.git(&["commit", "--quiet", "--message", "lib"]);
        site.git(&["push", "--quiet", "../team/app", &format!("+{branch}")]);
        self.server.users();
        let from = format!("{}/team/app", self.server.url);
        let args = [&["create", "--from", &from, "--branch", branch], args].concat();
        site.run_with(&self.server.variables(variables), &args).ok().does_not_say(PASSWORD)
    }

    fn has_files(&self, branch: &str) -> bool {
        self.site.machine(&format!("app-{branch}")).join("workspace/lib/.git").exists()
    }
}

#[test]
fn the_secret_of_a_url_is_for_submodules_of_its_server() {
    let remote = Remote::new();
    let secret = format!("TOKEN={}", remote.host());
    let create = |branch: &str, url: &str| {
        remote.create(branch, url, &[("TOKEN", PASSWORD)], &["--secret", &secret]).does_not_say("stays empty: lib (");
        assert!(remote.has_files(branch), "{url}");
        remote.server.users()
    };
    assert_eq!(create("beside", "../lib"), ["user x-access-token"]);
    assert_eq!(create("other", &format!("{}/other/lib", remote.server.url)), ["user x-access-token"]);
}

/// The user may read more on the host than the machine should get.
#[test]
fn the_users_password_is_for_submodules_of_the_same_owner() {
    let remote = Remote::new();
    let helper = format!("[credential]\n\tusername = me\n\thelper = \"!echo password={PASSWORD}; :\"\n");
    remote.site.write("home/.gitconfig", helper);
    remote.site.write("home/.netrc", format!("machine localhost login me password {PASSWORD}\n"));
    remote.create("beside", "../lib", &[], &[]).does_not_say("stays empty: lib (");
    assert!(remote.has_files("beside"));
    let askpass = format!("printf '{PASSWORD}\\n'");
    remote.site.stand_in("askpass", &askpass);
    let askpass = remote.site.path("bin/askpass");
    let askpass = askpass.to_str().unwrap();

    let header = format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("me:{PASSWORD}")));
    let variables = [
        ("GIT_ASKPASS", askpass),
        ("SSH_ASKPASS", askpass),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "http.extraHeader"),
        ("GIT_CONFIG_VALUE_0", &header),
    ];
    for (branch, url) in [("other", "../../other/lib"), ("top", "../../lib")] {
        let done = remote.create(branch, url, &variables, &[]);
        done.says("1 submodule stays empty: lib (").says("git clone --recurse-submodules -- https://localhost");
        assert!(!remote.has_files(branch), "{url}");
    }
    // Everyone may read this one.
    remote.create("public", "../../public/lib", &variables, &[]).does_not_say("stays empty: lib (");
    assert!(remote.has_files("public"));
    let users = remote.server.users();
    assert_eq!(users, ["user me".to_owned(), format!("{} without a password", remote.host())]);
}

/// The test's proxy leads all names to the server.
#[test]
fn a_submodule_on_another_host_is_fetched_without_rights() {
    let remote = Remote::new();
    let log = remote.site.path("targets");
    let port = remote.host().rsplit_once(':').unwrap().1.to_owned();
    let (proxy, _proxy) = serve(&remote.site, "connect_proxy.py", &[port], &log);
    let proxy = format!("http://127.0.0.1:{proxy}");
    let secret = format!("TOKEN={}", remote.host());
    let variables = [("https_proxy", proxy.as_str()), ("TOKEN", PASSWORD)];
    let create = |branch: &str, url: &str| remote.create(branch, url, &variables, &["--secret", &secret]);
    create("public", "https://me:pw@public.example/public/lib").does_not_say("stays empty: lib (");
    assert!(remote.has_files("public"));
    let users = remote.server.users();
    assert_eq!(users, ["user x-access-token", "public.example without a password"]);
    create("ssh", "git@public.example:public/lib").does_not_say("stays empty: lib (");
    // It asks for a password.
    create("closed", "https://public.example/team/lib").says("lib (");
    assert!(!remote.has_files("closed"));
    // Names and addresses of the own network are not asked, also through a redirect.
    let before = remote.site.read(&log);
    for (branch, url) in [("local", "https://127.0.0.1/public/lib"), ("name", "https://nas.local/public/lib")] {
        create(branch, url).says("lib (its host ");
    }
    create("lost", &format!("{}/lost/nas.local/public/lib", remote.server.url)).says("lib (its host is not");
    let asked = remote.site.read(&log);
    let asked: Vec<_> = asked[before.len()..].lines().collect();
    assert!(asked.iter().all(|target| *target == remote.host()), "{asked:?}");
    // Control.
    create("found", &format!("{}/lost/public.example/public/lib", remote.server.url))
        .does_not_say("stays empty: lib (");
    create("moved", &format!("{}/moved/lib", remote.server.url)).does_not_say("stays empty: lib (");
    assert!(remote.has_files("found") && remote.has_files("moved"));
}
