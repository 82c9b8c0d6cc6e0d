//! Package managers of the guest, each through the real proxy with one group allowed, against stand-ins of their registries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::egress::site_with_proxy;
use crate::site::{Done, Site, skip};
use crate::world::{PUBLIC, World};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm_machines/registries.py");
const SAYS: &str = "installed from the stand-in";

/// The packages of the managers. Other tests that need Node use them too, so that one image serves all of them.
pub const PACKAGES: &str = "cargo,golang-go,maven,npm,ruby";

/// Memory of a machine, for compilers and Java.
const MEMORY: &str = "2048";

/// A package manager.
struct Manager {
    group: &'static str,
    /// A registry's host, the first that it asks.
    host: &'static str,
    /// Whether it is root's.
    root: bool,
    /// Installs the package. Its directory is that of its project.
    install: &'static str,
    /// Prints what the installed package says.
    says: &'static str,
    /// Whether its own error has the command that allows the host.
    names: bool,
}

const PIP: Manager = Manager {
    group: "pypi",
    host: "pypi.org",
    root: false,
    install: "pip install --retries 1 --target /tmp/pip stand-in",
    says: "PYTHONPATH=/tmp/pip python3 -c 'import stand_in; print(stand_in.says)'",
    names: true,
};
const NPM: Manager = Manager {
    group: "npm",
    host: "registry.npmjs.org",
    root: false,
    install: "cd npm && npm ci --fetch-retries=0",
    says: "cd npm && node -p 'require(\"stand-in\")'",
    names: true,
};
const GEM: Manager = Manager {
    group: "rubygems",
    host: "index.rubygems.org",
    root: false,
    install: "gem install --install-dir /tmp/gems --no-document stand-in",
    says: "GEM_PATH=/tmp/gems ruby -rstand_in -e 'puts SAYS'",
    names: true,
};
const APT: Manager = Manager {
    group: "debian",
    host: "deb.debian.org",
    root: true,
    // The stand-in has no key of Debian's.
    install: "sed -i 's/^Signed-By:.*/Trusted: yes/' /etc/apt/sources.list.d/debian.sources &&
        apt-get update --error-on=any && apt-get install --yes stand-in",
    says: "stand-in",
    names: true,
};
const CARGO: Manager = Manager {
    group: "crates",
    host: "index.crates.io",
    root: false,
    install: "cd cargo && CARGO_NET_RETRY=0 cargo build",
    says: "cd cargo && cargo build --offline && cat ~/.cargo/registry/src/*/stand-in-1.0.0/src/lib.rs",
    names: false,
};
const GO: Manager = Manager {
    group: "go",
    host: "proxy.golang.org",
    root: false,
    // The database of checksums signs what it has.
    install: "cd go && GONOSUMDB=example.org GOFLAGS=-mod=mod go build ./...",
    says: "cat $(go env GOMODCACHE)/example.org/stand-in@v1.0.0/stand.go",
    names: true,
};
const MAVEN: Manager = Manager {
    group: "maven",
    host: "repo.maven.apache.org",
    root: false,
    // Without -U, it remembers the refusal.
    install: "cd maven && mvn --batch-mode -U validate",
    says: "unzip -p ~/.m2/repository/org/example/stand-in/1.0.0/stand-in-1.0.0.jar stand-in.txt",
    names: true,
};

/// The files of the registries, and the projects.
struct Registries(tempfile::TempDir);

impl Registries {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        registries(&["make", dir.path().to_str().unwrap()]);
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn registries(args: &[&str]) {
    let done = Command::new("python3").arg(SCRIPT).args(args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Builds a guest with packages, outside of the world, which has none of Debian's real registries.
fn build(packages: &str) {
    let site = crate::site::site().unwrap();
    site.create_with(&["--package", packages]);
    site.run(&["start", "main", "--timeout", "1"]);
    assert!(site.machine("app-main").join("flake/guest").exists());
    site.run(&["stop", "main"]);
}

/// Returns a running machine in a world with the registries; None, with the test reported as skipped, if this host cannot
/// have it.
fn started(packages: &str) -> Option<(Site, PathBuf)> {
    let site = site_with_proxy()?;
    if !rustix::process::geteuid().is_root() {
        skip("only root makes networks");
        return None;
    }
    build(packages);
    let made = Registries::make();
    let dir = made.0.path().to_owned();
    let hosts = fs::read_dir(made.path("site")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let hosts: Vec<_> = hosts.chain(["rubygems.org".to_owned()]).collect();
    let names: Vec<_> = hosts.iter().map(|host| (host.as_str(), PUBLIC)).collect();
    let serve = ["python3", SCRIPT, "serve", dir.to_str().unwrap()];
    let site = site.within(World::serving(&names, &serve, made.0));
    for project in fs::read_dir(dir.join("projects")).unwrap() {
        let copied = Command::new("cp").arg("-R").arg(project.unwrap().path()).arg(site.repo()).status().unwrap();
        assert!(copied.success());
    }
    site.commit("all", "projects\n");
    // The stand-ins have an authority of their own, which the proxy trusts, and the guest trusts the proxy.
    let args =
        ["create", "--memory", MEMORY, "--cores", "2", "--disk", "1024", "--egress", "monitor", "--package", packages];
    site.run(&args).ok();
    let mut start = site.agent_vm(&["start", "main"]);
    Done::from(start.env("SSL_CERT_FILE", dir.join("ca.pem")).output().unwrap(), &["start"]).ok();
    Some((site, dir))
}

fn run(site: &Site, manager: &Manager, script: &str) -> Done {
    let root: &[&str] = if manager.root { &["--root"] } else { &[] };
    site.run(&[&["exec"], root, &["main", "--", "sh", "-c", script]].concat())
}

/// Installs by a manager: refused at first, with the command that allows it, and then with its group alone.
fn installs(site: &Site, manager: &Manager) {
    let command = format!("agent-vm egress allow --branch app-main {}:443", manager.host);
    let refused = run(site, manager, manager.install);
    let said = refused.stdout.clone() + &refused.stderr;
    assert!(refused.code != Some(0), "{}: {said}", manager.group);
    println!("{}: its error names the command: {}", manager.group, said.contains(&command));
    assert!(said.contains(&command) || !manager.names, "{}: {said}", manager.group);
    site.run(&["egress", "log", "main", "--denied"]).ok().says(&command);
    let suggested = site.run(&["egress", "suggest", "main", "--json"]).ok().json();
    let is_ours = |one: &serde_json::Value| one["group"] == format!("@{}", manager.group);
    assert!(suggested.as_array().unwrap().iter().any(is_ours), "{}: {suggested}", manager.group);

    site.run(&["egress", "allow", "--branch", "main", &format!("@{}", manager.group)]).ok();
    let began = std::time::Instant::now();
    run(site, manager, manager.install).ok();
    println!("{}: {:.1} s", manager.group, began.elapsed().as_secs_f32());
    let said = run(site, manager, manager.says).ok().stdout;
    assert!(said.contains(SAYS), "{}: {said}", manager.group);
    site.run(&["egress", "deny", "--branch", "main", &format!("@{}", manager.group)]).ok();
}

/// Ruby itself makes the gem and its description for the stand-in.
fn make_gem(site: &Site, dir: &Path) {
    let sha256 = site.exec("main", &["sh", "-c", "cd gem && sh pack.sh | tail -n 1"]).ok().stdout;
    for (file, place) in [("stand-in-1.0.0.gem", "gems"), ("stand-in-1.0.0.gemspec.rz", "quick/Marshal.4.8")] {
        let place = dir.join("site/index.rubygems.org").join(place);
        fs::create_dir_all(&place).unwrap();
        fs::copy(site.machine("app-main").join("workspace/gem").join(file), place.join(file)).unwrap();
    }
    registries(&["gem", dir.to_str().unwrap(), sha256.trim()]);
}

#[test]
fn packages_are_installed_from_their_registries() {
    let Some((site, dir)) = started(PACKAGES) else { return };
    make_gem(&site, &dir);
    for manager in [PIP, NPM, GEM, APT, CARGO, GO, MAVEN] {
        installs(&site, &manager);
    }
}
