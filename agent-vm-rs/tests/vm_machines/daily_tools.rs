//! What a machine has without being asked: programs, the host's time zone and its time.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::site::{Done, Site, site, wait_until};

/// SHA-256 of "one\n", "two\n" and "three\n".
const ONE: &str = "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806";
const TWO: &str = "27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a";
const THREE: &str = "f6936912184481f5edd4c304ce27c5a1a827804fc7f329f43d273b8621870776";

#[test]
fn tools_zone_and_clock_are_there() {
    let Some(site) = site() else { return };
    site.commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    commit_large(&site, "one.bin", ONE, "one\n");
    site.create("main");
    let args = ["start", "main"];
    Done::from(site.agent_vm(&args).env("TZ", "America/New_York").output().unwrap(), &args).ok();

    let tools = ["git-lfs", "infocmp", "jq", "less", "make", "patch", "pip", "python3", "rg"];
    for tool in tools {
        site.exec("main", &["sh", "-c", &format!("command -v {tool}")]).ok();
    }
    large_files_go_both_ways(&site);

    assert_eq!(site.exec("main", &["date", "--date", "@1750000000", "+%Z"]).ok().stdout, "EDT\n");
    assert_eq!(site.exec("main", &["cat", "/etc/timezone"]).ok().stdout, "America/New_York\n");

    wait_until("the clock to be set", || difference(&site) < Duration::from_secs(1));
    // The machine's clock stops in a pause, as it does while the host sleeps; the hardware clock goes on.
    let mut qmp = Qmp::connect(&site);
    qmp.execute("stop");
    let paused = Instant::now();
    wait_until("a pause of some seconds", || paused.elapsed() > Duration::from_secs(4));
    qmp.execute("cont");
    wait_until("the clock to be set", || difference(&site) < Duration::from_secs(1));
    let journal = || site.exec("main", &["journalctl", "--quiet", "--unit", "agent-vm-clock"]).ok().stdout;
    wait_until("the step to be in the journal", || journal().contains("set the clock by +"));

    // A machine that is started without the variable has the host's zone, and one with a wrong value, too.
    site.run(&["stop", "main"]).ok();
    Done::from(site.agent_vm(&args).env("TZ", "../../etc/passwd").output().unwrap(), &args).ok();
    let zone = site.exec("main", &["cat", "/etc/timezone"]).ok().stdout;
    assert!(!zone.contains("..") && zone != "America/New_York\n", "{zone}");
}

fn pointer(oid: &str, size: usize) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

fn in_store(site: &Site, oid: &str) -> PathBuf {
    site.repo().join(format!(".git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]))
}

/// Commits a pointer on the host, which needs no Git LFS, with the contents in the store.
fn commit_large(site: &Site, name: &str, oid: &str, contents: &str) {
    let file = in_store(site, oid);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, contents).unwrap();
    site.commit(name, &pointer(oid, contents.len()));
}

/// The machine's Git LFS agrees with what `create`, `fetch` and `push` do without it.
fn large_files_go_both_ways(site: &Site) {
    let inside = |script: &str| site.exec("main", &["sh", "-ec", script]).ok().stdout;
    assert_eq!(
        inside("git status --porcelain; cat one.bin; git lfs ls-files --name-only; git lfs fsck"),
        "one\none.bin\nGit LFS fsck OK\n"
    );
    inside("echo two >two.bin; git add two.bin; git commit -qm two");
    assert!(!in_store(site, TWO).exists());
    assert_eq!(site.status("main")["workspace"]["git"]["changed_files"], 0);
    site.run(&["fetch", "main"]).ok();
    assert_eq!(fs::read_to_string(in_store(site, TWO)).unwrap(), "two\n");
    assert_eq!(site.git(&["for-each-ref", "refs/agent-vm/app-main/uncommitted"]), "");
    site.git(&["merge", "--quiet", "--ff-only", "refs/agent-vm/app-main/heads/main"]);

    commit_large(site, "three.bin", THREE, "three\n");
    // Nobody has these.
    site.commit("four.bin", &pointer(&"4".repeat(64), 5));
    site.run(&["push", "main"]).ok();
    assert_eq!(
        inside("git pull -q 2>/dev/null; cat three.bin; head -n 1 four.bin; git status --porcelain"),
        "three\nversion https://git-lfs.github.com/spec/v1\n"
    );
}

/// Returns how far the machine's clock is from ours; a command takes some time.
fn difference(site: &Site) -> Duration {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let before = now();
    let guest = site.exec("main", &["date", "+%s%N"]).ok().stdout;
    let guest = Duration::from_nanos(guest.trim().parse().unwrap());
    before.saturating_sub(guest).max(guest.saturating_sub(now()))
}

/// QEMU's control socket.
struct Qmp(BufReader<UnixStream>);

impl Qmp {
    fn connect(site: &Site) -> Self {
        let stream = UnixStream::connect(site.machine("app-main").join("run/qemu/qmp.sock")).unwrap();
        let mut qmp = Self(BufReader::new(stream));
        qmp.0.read_line(&mut String::new()).unwrap();
        qmp.execute("qmp_capabilities");
        qmp
    }

    fn execute(&mut self, command: &str) {
        writeln!(self.0.get_mut(), "{{\"execute\": \"{command}\"}}").unwrap();
        let mut line = String::new();
        while !line.contains("\"return\"") {
            assert!(!line.contains("\"error\""), "{line}");
            line.clear();
            self.0.read_line(&mut line).unwrap();
        }
    }
}
