//! bubblewrap's arguments for the host files that a sandbox shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Account;
use super::mount::{Mount, SYSTEM, is_system, real};
use super::stage;
use crate::host::process::Invocation;

/// Adds the files, the working directory and the end of bubblewrap's options. `account` creates the namespaces.
pub(super) fn with_files(
    bwrap: Invocation,
    program: &Invocation,
    binds: &[Mount],
    account: Option<&Account>,
) -> Invocation {
    let mut bwrap = bwrap.args(["--dev", "/dev", "--tmpfs", "/tmp"]);
    for directory in ways_to(binds) {
        bwrap = bwrap.arg("--dir").arg(directory);
    }
    for path in SYSTEM {
        bwrap = bwrap.args(["--ro-bind-try", path, path]);
    }
    for bind in binds {
        let option = match bind {
            Mount::Read(_) => "--ro-bind",
            Mount::ReadIfThere(_) => "--ro-bind-try",
            Mount::Write(_) => "--bind",
            Mount::Device(_) => "--dev-bind",
        };
        bwrap = bwrap.arg(option).arg(source(account, bind.path())).arg(bind.path());
    }
    let place: &Path = program.cwd.as_deref().unwrap_or(Path::new("/"));
    bwrap.arg("--chdir").arg(place).arg("--")
}

/// Returns where the account that creates the namespaces finds a path of the host's.
pub(super) fn source(account: Option<&Account>, path: &Path) -> PathBuf {
    if account.is_some_and(|account| account.stage.is_some()) { stage::place(path) } else { path.to_owned() }
}

/// Returns the bind mounts for `mounts`: each path once, a directory before its entries.
///
/// bubblewrap can neither mount on a symbolic link nor create anything in a read-only mount. A path inside another mount or
/// the system is therefore bound by its real path, and left out if it can already be read. In a Nix store this applies to
/// nearly every path.
pub(super) fn binds(mounts: &[Mount]) -> Vec<Mount> {
    let is_in_another = |path: &Path| {
        is_system(path) || mounts.iter().any(|other| other.path() != path && path.starts_with(other.path()))
    };
    let mut resolved: Vec<Mount> = mounts
        .iter()
        .map(|mount| if is_in_another(mount.path()) { mount.at(real(mount.path())) } else { mount.clone() })
        .collect();
    resolved.sort_by_key(|mount| mount.path().components().count());
    let mut binds: Vec<Mount> = Vec::new();
    for mount in resolved {
        // The last of these is the deepest and decides.
        let around = binds.iter().rev().find(|bind| mount.path().starts_with(bind.path()));
        let can_be_read = around.map_or_else(|| is_system(mount.path()), Mount::is_read);
        if !(binds.contains(&mount) || mount.is_read() && can_be_read) {
            binds.push(mount);
        }
    }
    binds
}

/// Returns the directories above the mounts and above the system. bubblewrap would create them with access for their owner
/// only, who is not the account that runs the program.
fn ways_to(mounts: &[Mount]) -> BTreeSet<&Path> {
    let paths = mounts.iter().map(Mount::path);
    let is_ours =
        |directory: &&Path| *directory != Path::new("/") && *directory != Path::new("/dev") && !is_system(directory);
    paths.chain(SYSTEM.map(Path::new)).flat_map(|path| path.ancestors().skip(1)).filter(is_ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::bwrap::reading;
    use crate::confine::mount::installation;
    use crate::confine::{Confinement, Sandbox};

    #[test]
    fn only_the_programs_part_of_an_installation_is_mounted() {
        assert_eq!(installation(Path::new("/usr/bin/qemu")), []);
        let seen = installation(Path::new("/home/me/bin/qemu"));
        let paths: Vec<_> = ways_to(&seen).into_iter().collect();
        assert!(
            seen.contains(&Mount::Read("/home/me/bin".into())) && paths.contains(&Path::new("/home/me")),
            "{seen:?}"
        );
        assert!(
            !seen
                .iter()
                .any(|mount| matches!(mount, Mount::Read(path) | Mount::ReadIfThere(path) if path == "/home/me"))
        );
    }

    #[test]
    fn readable_paths_are_not_bound_again() {
        let read = |path: &str| Mount::Read(path.into());
        let write = |path: &str| Mount::Write(path.into());
        let none: [Mount; 0] = [];
        assert_eq!(binds(&[read("/usr/share/qemu"), read("/nix/store/x/kernel"), read("/nix/store")]), none);
        assert_eq!(binds(&[read("/a/b"), read("/a"), read("/a")]), [read("/a")]);
        // A writable path inside a read-only one is bound, and the reverse.
        assert_eq!(
            binds(&[write("/usr/local/x"), write("/a/b"), read("/a")]),
            [read("/a"), write("/a/b"), write("/usr/local/x")]
        );
        assert_eq!(binds(&[read("/a/b"), write("/a"), read("/a/b/c")]), [write("/a"), read("/a/b")]);
        let device = Mount::Device("/dev/kvm".into());
        assert_eq!(binds(&[device.clone(), device.clone()]), [device]);
    }

    /// Nix packages link to files in other packages.
    #[test]
    fn links_in_what_is_bound_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for place in ["store/linux", "store/guest", "elsewhere"] {
            std::fs::create_dir_all(root.join(place)).unwrap();
        }
        std::fs::write(root.join("store/linux/bzImage"), "kernel").unwrap();
        std::fs::write(root.join("elsewhere/initrd"), "initrd").unwrap();
        std::os::unix::fs::symlink("../linux/bzImage", root.join("store/guest/kernel")).unwrap();
        std::os::unix::fs::symlink(root.join("elsewhere/initrd"), root.join("store/guest/initrd")).unwrap();
        let read = |path: &str| Mount::Read(root.join(path));
        let mounts = [read("store/guest/kernel"), read("store/guest/initrd"), read("store")];
        assert_eq!(binds(&mounts), [read("store"), read("elsewhere/initrd")]);
        // A path inside no other mount is bound as it is.
        assert_eq!(binds(&mounts[..1]), mounts[..1]);

        let confinement = Confinement { sandbox: Some(Sandbox { account: None, proxyd: None }), landlock: None };
        let words = ["store/guest/kernel", "store/guest/initrd"].map(|path| root.join(path));
        let cat = reading(&Invocation::new("cat").args(words).cwd("/"), &confinement, &mounts, false);
        if reading(&Invocation::new("true").cwd("/"), &confinement, &[], false).checked().is_err() {
            crate::term::skip_test("this host does not allow namespaces");
            return;
        }
        assert_eq!(cat.read().unwrap(), "kernelinitrd");
    }

    #[test]
    fn an_installation_is_mounted_by_its_link_and_its_real_path() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/bin")).unwrap();
        std::fs::create_dir_all(root.join("named/bin")).unwrap();
        std::fs::write(root.join("real/bin/qemu"), "").unwrap();
        std::os::unix::fs::symlink(root.join("real/bin/qemu"), root.join("named/bin/qemu")).unwrap();
        let seen = installation(&root.join("named/bin/qemu"));
        for place in ["named/bin", "real/bin"] {
            assert!(seen.contains(&Mount::Read(root.join(place))), "{seen:?}");
        }
        assert_eq!(installation(&root.join("real/bin/qemu")).len(), 6);
    }
}
