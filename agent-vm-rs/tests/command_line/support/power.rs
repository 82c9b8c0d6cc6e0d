//! A disk whose power can be cut: data that a program has not synced is lost.
//!
//! It is two file systems, one in a file of the other. Data that is written to the inner one without a flush stays in
//! the page cache of the outer one, which acts as a disk's volatile cache. A power cut leaves a copy of the file that
//! holds the outer one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::processes::wait_until;
use super::programs::{skip, which};

/// The disk; dropping it unmounts it.
pub struct Power {
    dir: tempfile::TempDir,
}

impl Power {
    /// Makes a disk of 64 MiB; None, with the test reported as skipped, if this host cannot mount one.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("only root mounts file systems whose power can be cut");
            return None;
        }
        let power = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["outer", "place", "cuts"] {
            fs::create_dir(power.path(dir)).unwrap();
        }
        let made = power.make_file_system("outer.img", 112)
            && power.mount("outer.img", "outer")
            && power.make_file_system("outer/inner.img", 64)
            && power.mount("outer/inner.img", "place");
        if !made {
            skip("this host has no loop devices, or no ext4, to mount file systems on whose power can be cut");
            return None;
        }
        power.sync();
        Some(power)
    }

    /// Returns where the disk is mounted.
    pub fn place(&self) -> PathBuf {
        self.path("place")
    }

    /// Returns the directory for copies of the disk; it is on another disk.
    pub fn cuts(&self) -> PathBuf {
        self.path("cuts")
    }

    /// Returns the file that a power cut leaves, to be copied.
    pub fn image(&self) -> PathBuf {
        self.path("outer.img")
    }

    /// Writes all data to the disk.
    pub fn sync(&self) {
        for dir in ["place", "outer"] {
            rustix::fs::syncfs(fs::File::open(self.path(dir)).unwrap()).unwrap();
        }
    }

    /// Copies the disk as a power cut would leave it now; returns the copy.
    pub fn cut(&self, name: &str) -> PathBuf {
        let cut = self.cuts().join(name);
        assert!(run("cp", &["--sparse=always".as_ref(), &self.image(), &cut]), "the disk could not be copied");
        cut
    }

    /// Replaces the disk with a copy, as after a power cut.
    pub fn back(&self, cut: &Path) {
        self.unmount();
        fs::rename(cut, self.image()).unwrap();
        assert!(
            self.mount("outer.img", "outer") && self.mount("outer/inner.img", "place"),
            "the image after the cut is not a valid file system"
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make_file_system(&self, file: &str, mib: u32) -> bool {
        let mut words = vec!["-q".into(), "-F".into(), "-t".into(), "ext4".into(), self.path(file)];
        words.push(format!("{mib}M").into());
        // All blocks are allocated at the beginning, so that the outer file system allocates nothing later.
        run("fallocate", &["-l".as_ref(), format!("{mib}MiB").as_ref(), &self.path(file)])
            && run("mke2fs", &words.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    }

    fn mount(&self, file: &str, at: &str) -> bool {
        // During a test, neither the commit timer nor ext4's workaround for unsynced renames writes anything.
        let options = "loop,commit=300,noauto_da_alloc";
        run(
            "mount",
            &["-t".as_ref(), "ext4".as_ref(), "-o".as_ref(), options.as_ref(), &self.path(file), &self.path(at)],
        )
    }

    fn unmount(&self) {
        for dir in ["place", "outer"] {
            let at = self.path(dir);
            let mounted =
                || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" {} ", at.display()));
            wait_until("a file system to be unmounted", || !mounted() || run("umount", &[&at]));
        }
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        for dir in ["place", "outer"] {
            run("umount", &["-l".as_ref(), &self.path(dir)]);
        }
    }
}

fn run(program: &str, words: &[&Path]) -> bool {
    let Some(program) = which(program) else { return false };
    let output = Command::new(program).args(words).output().unwrap();
    output.status.success()
}
