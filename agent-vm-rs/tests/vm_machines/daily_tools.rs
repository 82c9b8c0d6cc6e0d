//! What a machine has without being asked: programs, the host's time zone and its time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::site::{Done, Site, site, wait_until};

/// A repository in LFS, without the network.
const LARGE_FILES: &str =
    "set -e; git init -q /tmp/lfs; cd /tmp/lfs; git lfs track '*.bin' >/dev/null; seq 100000 >a.bin
    git add . && git commit -qm large; git cat-file -p HEAD:a.bin | head -n 1; rm a.bin; git checkout -q a.bin
    wc -l <a.bin; git status --porcelain";

#[test]
fn tools_zone_and_clock_are_there() {
    let Some(site) = site() else { return };
    site.create("main");
    let args = ["start", "main"];
    Done::from(site.agent_vm(&args).env("TZ", "America/New_York").output().unwrap(), &args).ok();

    let tools = ["git-lfs", "infocmp", "jq", "less", "make", "patch", "pip", "python3", "rg"];
    for tool in tools {
        site.exec("main", &["sh", "-c", &format!("command -v {tool}")]).ok();
    }
    let lfs = site.exec("main", &["sh", "-c", LARGE_FILES]).ok().stdout;
    assert_eq!(lfs, "version https://git-lfs.github.com/spec/v1\n100000\n");

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
