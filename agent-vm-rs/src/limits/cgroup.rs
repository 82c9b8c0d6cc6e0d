//! Limits by a cgroup (version 2) of our own, where one is delegated to us: in a container, or in a service with `Delegate=`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::statfs;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Wanted;
use crate::host::hex;
use crate::host::process::Invocation;

/// Where the cgroups are.
pub const MOUNT: &str = "/sys/fs/cgroup";
/// Magic number of the cgroup2 file system (statfs(2)).
const CGROUP2: i64 = 0x6367_7270;
/// Controllers that every limit needs. Others are used where they are delegated.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
const USED: [&str; 4] = ["cpu", "memory", "pids", "io"];
/// Period of the quota of processor time, in microseconds.
const PERIOD: u64 = 100_000;

/// The cgroup of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its directory.
    pub path: PathBuf,
}

impl Group {
    /// Makes the cgroup of the machine in `dir` beside our own cgroup, or in it, and sets the limits. `planned` is called before.
    ///
    /// # Errors
    /// No cgroup is delegated to us, or it has not all controllers; the error of `planned`.
    pub(super) fn make(dir: &Path, wanted: &Wanted, planned: &dyn Fn(&Self) -> Result<()>) -> Result<Self> {
        let mount = Path::new(MOUNT);
        let kind = statfs(mount).context("this host has no cgroups")?.f_type;
        // Root can write to systemd's own cgroups, which are not ours.
        let systemds = rustix::process::geteuid().is_root() && fs::exists("/run/systemd/system").unwrap_or(false);
        ensure!(!systemds, "no cgroup can be used: systemd owns those of this host");
        ensure!(kind == CGROUP2, "no cgroup can be used: {MOUNT} is not of version 2");
        let own = own(mount, &fs::read_to_string("/proc/self/cgroup").context("failed to read our cgroup")?)
            .context("our cgroup is unknown")?;
        Self::make_near(mount, &own, dir, wanted, planned)
    }

    /// Makes the cgroup beside `own`, or else in it.
    fn make_near(
        mount: &Path,
        own: &Path,
        dir: &Path,
        wanted: &Wanted,
        planned: &dyn Fn(&Self) -> Result<()>,
    ) -> Result<Self> {
        let hash = hex::hex(&Sha256::digest(dir.as_os_str().as_encoded_bytes()));
        let name = format!("agent-vm-{}", hash.get(..12).unwrap_or_default());
        let beside = own.parent().filter(|parent| own != mount && parent.starts_with(mount));
        let mut failed = anyhow::anyhow!("no cgroup can be used: none is delegated to this user");
        for parent in beside.into_iter().chain([own]) {
            let group = Self { path: parent.join(&name) };
            match delegate(parent, own).and_then(|()| planned(&group)).and_then(|()| group.made(wanted)) {
                Ok(group) => return Ok(group),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn made(self, wanted: &Wanted) -> Result<Self> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.with_context(|| format!("failed to make the cgroup {}", self.path.display()))?,
        }
        match self.set(wanted) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.remove();
                Err(error)
            }
        }
    }

    /// Returns a program that runs in the cgroup.
    pub(super) fn around(&self, program: &Invocation) -> Invocation {
        let join = Invocation::new("/bin/sh").args(["-c", r#"echo "$$" >"$1" && shift && exec "$@""#, "cgroup"]);
        program.within(join.arg(self.path.join("cgroup.procs")))
    }

    /// Sets the limits. Those of disk transfers are set where the controller is delegated.
    pub(super) fn set(&self, wanted: &Wanted) -> Result<()> {
        for (file, value) in values(wanted, disk_of(&wanted.disk).as_deref()) {
            match fs::write(self.path.join(file), &value) {
                Err(error) if file == "io.max" => tracing::info!("failed to limit disk transfers: {error}"),
                set => {
                    set.with_context(|| format!("failed to write {value:?} to {file} of {}", self.path.display()))?
                }
            }
        }
        Ok(())
    }

    /// Removes the cgroup, whose processes have ended.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::info!("failed to remove the cgroup {}: {error}", self.path.display());
        }
    }
}

/// Returns the directory of our cgroup of version 2, from `/proc/self/cgroup`.
fn own(mount: &Path, text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A path that leads out is not visible here.
    (!path.starts_with("..")).then(|| mount.join(path))
}

/// Gives the children of a cgroup all controllers that we need.
fn delegate(parent: &Path, own: &Path) -> Result<()> {
    let words = |file: &str| -> Result<Vec<String>> {
        let text = fs::read_to_string(parent.join(file)).with_context(|| format!("failed to read {file}"))?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    let (available, given) = (words("cgroup.controllers")?, words("cgroup.subtree_control")?);
    let has = |all: &[String], one: &str| all.iter().any(|other| other == one);
    if let Some(lacks) = NEEDED.into_iter().find(|controller| !has(&available, controller)) {
        anyhow::bail!("no cgroup can be used: the controller {lacks} is not delegated to {}", parent.display());
    }
    let missing: Vec<_> = USED.into_iter().filter(|one| has(&available, one) && !has(&given, one)).collect();
    let control = parent.join("cgroup.subtree_control");
    let failed = || format!("failed to delegate the controllers of {}", parent.display());
    if !missing.is_empty() {
        File::options().write(true).open(&control).with_context(failed)?;
        // A cgroup with controllers for its children may have no processes itself (cgroups(7)). The kernel accepts some
        // controllers even so, and the children cannot have processes then.
        if parent == own {
            move_processes(own).with_context(failed)?;
        }
    }
    for controller in missing {
        let enabled = fs::write(&control, format!("+{controller}"));
        if NEEDED.contains(&controller) {
            enabled.with_context(failed)?;
        }
    }
    Ok(())
}

/// Moves the processes of our cgroup, which is delegated to us, to a child of it.
fn move_processes(own: &Path) -> io::Result<()> {
    if fs::read_to_string(own.join("cgroup.procs"))?.is_empty() {
        return Ok(());
    }
    let child = own.join("agent-vm-others");
    if !child.exists() {
        fs::create_dir(&child)?;
    }
    for process in fs::read_to_string(own.join("cgroup.procs"))?.lines() {
        match fs::write(child.join("cgroup.procs"), process) {
            // It has ended.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => {}
            moved => moved?,
        }
    }
    Ok(())
}

/// Returns the number of the disk (`MAJOR:MINOR`) that a directory is on; None if it is on none.
pub(super) fn disk_of(dir: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let number = dir.metadata().ok()?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let place = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // The limits are of a whole disk.
    let disk = if place.join("partition").exists() { place.parent()? } else { &place };
    Some(fs::read_to_string(disk.join("dev")).ok()?.trim().to_owned())
}

/// Returns the values of the cgroup's files.
fn values(wanted: &Wanted, device: Option<&str>) -> Vec<(&'static str, String)> {
    let max = |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
    let quota = wanted.cpu_quota.map(|percent| u64::from(percent) * PERIOD / 100);
    let mut all = vec![("cpu.max", format!("{} {PERIOD}", max(quota))), ("pids.max", max(wanted.pids.map(u64::from)))];
    all.extend(wanted.memory.map(|memory| ("memory.max", memory.to_string())));
    let (bytes, operations) = (max(wanted.disk_bandwidth.map(u64::from)), max(wanted.disk_iops.map(u64::from)));
    all.extend(
        device.map(|device| {
            ("io.max", format!("{device} rbps={bytes} wbps={bytes} riops={operations} wiops={operations}"))
        }),
    );
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::interrupt::Deadline;
    use crate::host::process::ProcessId;
    use crate::limits::force::AllInForce;

    fn wanted() -> Wanted {
        Wanted { memory: Some(3 << 30), cpu_quota: Some(150), pids: Some(512), ..Wanted::default() }
    }

    /// Returns a directory that looks like a cgroup whose controllers are delegated.
    fn stand_in(dir: &Path, controllers: &str, given: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
        fs::write(dir.join("cgroup.subtree_control"), given).unwrap();
        fs::write(dir.join("cgroup.procs"), "").unwrap();
    }

    #[test]
    fn the_group_is_made_beside_ours_or_in_it() {
        let mount = tempfile::tempdir().unwrap();
        let (session, machine) = (mount.path().join("user/session"), Path::new("/state/app-main"));
        stand_in(&mount.path().join("user"), "cpu io memory pids", "cpu io memory pids");
        stand_in(&session, "cpu io memory pids", "");
        let group = Group::make_near(mount.path(), &session, machine, &wanted(), &|_| Ok(())).unwrap();
        assert_eq!(group.path.parent(), Some(mount.path().join("user").as_path()));
        let read = |file: &str| fs::read_to_string(group.path.join(file)).unwrap();
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!((read("pids.max"), read("memory.max")), ("512".to_owned(), (3_u64 << 30).to_string()));
        group.set(&Wanted { cpu_quota: None, ..wanted() }).unwrap();
        assert_eq!(read("cpu.max"), "max 100000");
        // Without the parent's controllers, our own cgroup is used.
        stand_in(&mount.path().join("user"), "memory", "memory");
        let group = Group::make_near(mount.path(), &session, machine, &wanted(), &|_| Ok(())).unwrap();
        assert_eq!(group.path.parent(), Some(session.as_path()));
        stand_in(&session, "memory pids", "");
        let error = Group::make_near(mount.path(), &session, machine, &wanted(), &|_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("the controller cpu is not delegated"), "{error:#}");
    }

    /// A start that is killed before it has recorded a cgroup has made none.
    #[test]
    fn a_cgroup_is_known_before_it_is_made() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("user/session");
        for dir in [own.parent().unwrap(), &own] {
            stand_in(dir, "cpu io memory pids", "cpu io memory pids");
        }
        let seen = std::cell::RefCell::new(Vec::new());
        let make = |is_killed: bool| {
            let planned = |group: &Group| {
                seen.borrow_mut().push((group.path.clone(), group.path.exists()));
                ensure!(!is_killed, "killed");
                Ok(())
            };
            Group::make_near(mount.path(), &own, Path::new("/state/app-main"), &wanted(), &planned)
        };
        assert!(make(true).is_err());
        let made = make(false).unwrap();
        assert!(made.path.exists());
        let (paths, existed): (Vec<_>, Vec<_>) = seen.into_inner().into_iter().unzip();
        assert_eq!((paths.last(), existed), (Some(&made.path), vec![false; 3]));
    }

    #[test]
    fn our_cgroup_is_found() {
        let own = |text: &str| own(Path::new("/c"), text);
        assert_eq!(own("1:cpu:/x\n0::/user.slice/a b\n"), Some("/c/user.slice/a b".into()));
        assert_eq!(own("0::/\n"), Some("/c/".into()));
        assert_eq!((own("0::/../x\n"), own("1:cpu:/\n")), (None, None));
    }

    #[test]
    fn a_program_joins_before_it_begins() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group { path: dir.path().to_owned() };
        let program = group.around(&Invocation::new("sh").args(["-c", "echo $$"]).cwd("/"));
        let printed = program.read().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.procs")).unwrap().trim(), printed.trim());
    }

    /// Only where a cgroup is delegated to us.
    #[test]
    fn a_delegated_cgroup_limits_its_processes() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { pids: Some(40), memory: Some(256 << 20), disk: dir.path().to_owned(), ..wanted() };
        let Ok(group) = Group::make(dir.path(), &wanted, &|_| Ok(())) else { return };
        let sleeper = group.around(&Invocation::new("sleep").arg("100").cwd("/")).start_beside_us().unwrap();
        let id = ProcessId::of(sleeper.pid().unwrap()).unwrap();
        let end = Deadline::after(Duration::from_secs(60));
        end.poll("the process", Duration::from_millis(10), || {
            Ok(id.words().first().is_some_and(|word| word == "sleep").then_some(()))
        })
        .unwrap();
        let in_force = AllInForce::of(id.pid);
        let values = [&in_force.memory, &in_force.cpu_quota, &in_force.pids].map(|limit| limit.as_ref().unwrap().value);
        assert_eq!(values, [256 << 20, 150, 40]);
        let forks = |count: u32| {
            let script = format!("for n in $(seq {count}); do sleep 1 >/dev/null 2>&1 & done; echo all; wait");
            group.around(&Invocation::new("sh").args(["-c", &script]).cwd("/")).output().unwrap().stdout
        };
        assert_eq!(forks(10), b"all\n");
        assert!(!forks(60).starts_with(b"all"));
        id.end(Duration::from_secs(5));
        end.poll("the end of all processes", Duration::from_millis(50), || {
            group.remove();
            Ok((!group.path.exists()).then_some(()))
        })
        .unwrap();
    }
}
