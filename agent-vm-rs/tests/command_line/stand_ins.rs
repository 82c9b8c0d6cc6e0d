//! Stand-ins for the programs that build and run a guest; each records its calls.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::support::Site;

/// A guest that prints a line and keeps running.
pub const STAYS: &str = "echo 'kernel: hello'; exec sleep 1000";
/// A guest that prints two lines and fails.
pub const ENDS: &str = "echo 'kernel: hello'; echo 'kernel: panic'; exit 3";

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Returns the manifest of a guest package. Its workspace is a directory of the site, so that commands "in the guest"
/// can run.
pub fn manifest(site: &Site) -> Value {
    let mut manifest: Value = serde_json::from_str(include_str!("../data/manifest.json")).unwrap();
    manifest["workspace"]["path"] = json!(site.path("inside"));
    manifest["workspace"]["share"] = json!("9p");
    manifest["service"]["serversState"] = json!(site.path("servers.json"));
    manifest
}

/// Installs a Nix that works, an image builder, and a guest that runs `runner`.
pub fn install(site: &Site, runner: &str) {
    std::fs::create_dir_all(site.path("inside")).unwrap();
    servers(site, &[server("codemcp", "running")], &[]);
    let package = manifest(site);
    let mut from_nix = package.clone();
    from_nix["image"] = json!({ "hash": HASH, "builder": site.path("builder"), "spec": { "for": "the builder" } });
    site.write("package.json", package.to_string());
    site.write("from-nix.json", from_nix.to_string());
    let record = site.path("record");
    let record = record.display();
    let root = site.root();
    let root = root.display();
    site.stand_in("nix", &format!("echo \"$*\" >>'{record}/nix'; env >'{record}/nix.env'; cat '{root}/from-nix.json'"));
    site.script(
        "builder",
        &format!(
            "cp \"$1\" '{record}/spec'; echo \"$2 $AGENT_VM_LOG\" >>'{record}/builder'\n\
             . '{root}/make-package'"
        ),
    );
    // Makes the guest package "$2".
    site.write(
        "make-package",
        format!(
            "mkdir -p \"$2/bin\" \"$2/share/agent-vm\" && cp '{root}/runner' \"$2/bin/run-agent-vm\" &&\n\
             cp '{root}/package.json' \"$2/share/agent-vm/manifest.json\" && touch \"$2/vmlinux\"\n"
        ),
    );
    site.script("runner", &qemu(site, runner));
    site.stand_in("qemu-system-x86_64", "exit 0");
    // Becomes the parent of the confined program, which follows the last `--`; if that program is unshare(1), it
    // follows the first one.
    site.stand_in(
        "bwrap",
        &format!(
            "echo \"$*\" >>'{record}/bwrap'\n\
             number=0 last=0\n\
             for word; do\n\
             number=$((number + 1))\n\
             [ \"$word\" = -- ] || continue\n\
             last=$number\n\
             case \" $* \" in *' unshare '*) break;; esac\n\
             done\n\
             shift \"$last\"\n\
             exec 8>&2 2>/dev/null 9<&0\n\
             \"$@\" 2>&8 8>&- <&9 9<&- &\n\
             trap 'kill $!' TERM\n\
             wait $!"
        ),
    );
    site.stand_in("mke2fs", "for last; do :; done; for file; do case $file in *.raw) touch \"$file\";; esac; done");
    // The smallest qcow2 image: a table of one entry, at its end.
    site.stand_in(
        "qemu-img",
        &format!(
            "echo \"$*\" >>'{record}/qemu-img'; for last; do :; done\n\
             {{ printf 'QFI\\373\\0\\0\\0\\3'; head -c 12 /dev/zero; printf '\\0\\0\\0\\20'; head -c 12 /dev/zero; printf '\\0\\0\\0\\1'\n\
             printf '\\0\\0\\0\\0\\0\\0\\0\\150'; head -c 64 /dev/zero; }} >\"$last\""
        ),
    );
}

/// Returns the script of a guest that runs `runner`. Like QEMU, it removes the file of its process id when it exits by itself.
fn qemu(site: &Site, runner: &str) -> String {
    format!(
        "env >'{0}/runner.env'; pwd >'{0}/runner.cwd'; echo \"$*\" >'{0}/runner.args'\n\
         for word; do [ \"$last\" != -pidfile ] || pidfile=$word; last=$word; done\n\
         echo $$ >\"$pidfile\"; trap 'rm -f \"$pidfile\"' EXIT\n{runner}",
        site.path("record").display()
    )
}

/// Creates the machine of a branch with ports that no other test uses. The stand-in for QEMU binds no port, so two
/// starts at once would choose the same ones.
pub fn create(site: &Site, branch: &str) -> String {
    let name = site.create(branch);
    own_ports(site, &name);
    name
}

/// Gives a machine ports of its own.
pub fn own_ports(site: &Site, name: &str) {
    // Both listeners stay open until both ports are known.
    let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    for (key, listener) in ["port", "ssh_port"].iter().zip(&held) {
        site.set(name, key, listener.local_addr().unwrap().port().into());
    }
}

/// A lock on the default ports, which a machine has that one command creates and starts.
pub struct DefaultPorts {
    _lock: std::fs::File,
}

impl DefaultPorts {
    /// Waits for the lock.
    pub fn take() -> Self {
        let name = format!("agent-vm-tests-{}", rustix::process::getuid().as_raw());
        let lock = std::fs::File::create(std::env::temp_dir().join(name)).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        Self { _lock: lock }
    }
}

/// Changes what the guest does, also in packages that are already built.
pub fn change_runner(site: &Site, runner: &str) {
    let script = qemu(site, runner);
    site.script("runner", &script);
    for package in std::fs::read_dir(site.path("cache/agent-vm/guests")).into_iter().flatten().flatten() {
        let built = package.path().join("bin/run-agent-vm");
        if built.exists() {
            site.script(built.strip_prefix(site.root()).unwrap(), &script);
        }
    }
}

/// Returns what the guest's gateway reports for one server.
pub fn server(name: &str, state: &str) -> Value {
    let failed = state == "failed";
    json!({
        "name": name,
        "state": state,
        "restarts": u8::from(failed),
        "exit_code": failed.then_some(3),
        "signal": null,
        "why": failed.then_some("exited with status 3"),
        "last_line": failed.then_some("no such \u{1b}[2Jmodule"),
        "calls": { "count": 3, "errors": 0, "time_ms": 90 },
    })
}

/// Writes the report of the guest's gateway for all servers.
pub fn servers(site: &Site, servers: &[Value], problems: &[&str]) {
    site.write("servers.json", json!({ "servers": servers, "problems": problems }).to_string());
}

/// Returns the lines that a stand-in has recorded.
pub fn recorded(site: &Site, name: &str) -> Vec<String> {
    site.read(format!("record/{name}")).lines().map(str::to_owned).collect()
}

/// Installs an ssh that runs its command "in the guest", which is this host, and reports a healthy service. Its control master
/// ends with QEMU, whose end closes the connection of a real one.
pub fn install_ssh(site: &Site) {
    let record = site.path("record");
    let state = "ActiveState=active\\nSubState=running\\nResult=success\\nNRestarts=0\\n";
    site.stand_in("systemctl", &format!("printf '{state}\\n{state}'"));
    site.stand_in("journalctl", "printf 'the journal\\033[2J of journalctl %s\\n' \"$*\"");
    site.stand_in(
        "ssh",
        &format!(
            "echo \"$*\" >>'{}/ssh'\n\
             for last; do :; done\n\
             case \" $* \" in\n\
             *' -O check '*) test -e run/ssh.sock && kill -0 \"$(cut -d ' ' -f 1 run/ssh.pid)\"; exit;;\n\
             *' -O '*) exit;;\n\
             *' -M '*) for word; do case $word in ControlPath=*) touch \"${{word#*=}}\";; esac; done\n\
             exec tail -s 0.1 --pid=\"$(cut -d ' ' -f 1 run/qemu.pid)\" -f /dev/null;;\n\
             esac\n\
             exec sh -c \"$last\"",
            record.display()
        ),
    );
}
