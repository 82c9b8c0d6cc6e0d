//! Finding programs, and hints for installing missing ones.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::system::install_hint;
use crate::term::error::Failure;

/// Directories where Debian installs mke2fs and others, which an ordinary user's PATH lacks.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin";
/// Variables with directories of programs and libraries. An empty part, such as that of `:/usr/local/lib`, is the working
/// directory: ld.so(8).
const LISTS: [&str; 6] = ["PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PERL5LIB", "RUBYLIB", "NODE_PATH"];

/// Returns our PATH without its relative directories, also empty ones; None if it is not set. A program would look for them
/// in its working directory, which may be a guest's.
#[must_use]
pub fn search_path() -> Option<OsString> {
    env::var_os("PATH").map(|path| absolute_only(&path))
}

/// Returns those variables with lists of directories that programs search for programs and libraries, without relative
/// directories and those that `is_left_out` accepts.
pub fn search_paths_without(is_left_out: impl Fn(&Path) -> bool) -> impl Iterator<Item = (&'static str, OsString)> {
    LISTS.into_iter().filter_map(move |name| {
        let kept = those_of(&env::var_os(name)?, |dir| !is_left_out(dir));
        Some((name, if name == "PATH" { or_system(kept) } else { kept }))
    })
}

fn absolute_only(path: &OsStr) -> OsString {
    or_system(those_of(path, |_| true))
}

fn those_of(path: &OsStr, is_wanted: impl Fn(&Path) -> bool) -> OsString {
    let absolute: Vec<_> = env::split_paths(path).filter(|dir| dir.is_absolute() && is_wanted(dir)).collect();
    env::join_paths(absolute).unwrap_or_default()
}

/// Returns a PATH that is not empty: an empty one would be the working directory.
fn or_system(path: OsString) -> OsString {
    if path.is_empty() { SYSTEM_PATH.into() } else { path }
}

/// Returns the path of a program.
///
/// # Errors
/// It is not installed; the hint says how to install it.
pub fn find(program: &OsStr) -> Result<PathBuf> {
    // A program with a slash is a path, which may start at the current directory.
    let on_path = which::which_in(program, search_path(), env::current_dir().unwrap_or_else(|_| "/".into()));
    on_path.or_else(|_| which::which_in(program, Some(SYSTEM_PATH), "/")).map_err(|_| {
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let (debian, nixpkgs) = package_of(&name);
        Failure::new(format!("{name} is not on PATH"))
            .with_hint(format!("install it: {}", install_hint(debian, nixpkgs)))
            .into()
    })
}

/// Returns the Debian package and the nixpkgs attribute of a program.
fn package_of(program: &str) -> (&str, &str) {
    match program {
        "ssh" | "ssh-keygen" => ("openssh-client", "openssh"),
        "nix" => ("nix-bin", "nix"),
        "qemu-img" => ("qemu-utils", "qemu"),
        "mke2fs" => ("e2fsprogs", "e2fsprogs"),
        "bwrap" => ("bubblewrap", "bubblewrap"),
        "mitmdump" => ("mitmproxy", "mitmproxy"),
        "prlimit" | "setsid" | "setpriv" | "unshare" => ("util-linux", "util-linux"),
        "qemu-system-x86_64" => ("qemu-system-x86", "qemu"),
        "qemu-system-aarch64" => ("qemu-system-arm", "qemu"),
        "python3" => ("python3", "python3"),
        other => (other, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_in_sbin_are_found() {
        let dir = SYSTEM_PATH.split(':').map(Path::new).find(|dir| dir.is_dir());
        let program =
            dir.and_then(|dir| std::fs::read_dir(dir).ok()?.flatten().find(|entry| which::which(entry.path()).is_ok()));
        // Some systems have no such directory, or no programs in it.
        if let Some(program) = program {
            assert!(find(&program.file_name()).is_ok());
        }
    }

    #[test]
    fn relative_directories_are_not_searched() {
        for (path, kept) in [
            ("./tools:/usr/bin:bin::/bin:", "/usr/bin:/bin"),
            ("/usr/bin:/opt/a b/bin", "/usr/bin:/opt/a b/bin"),
            (".", SYSTEM_PATH),
            ("", SYSTEM_PATH),
        ] {
            assert_eq!(absolute_only(path.as_ref()), kept, "{path}");
        }
        let outside = |path: &str| those_of(path.as_ref(), |dir| !dir.starts_with("/tree"));
        assert_eq!(outside("/tree/.venv/bin:/usr/bin"), "/usr/bin");
        assert_eq!(outside("/tree/.venv/bin:"), "");
        assert_eq!(or_system(outside("/tree/.venv/bin")), SYSTEM_PATH);
    }

    #[test]
    fn a_missing_program_has_an_install_hint() {
        let error = find("no-such-program-here".as_ref()).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here is not on PATH"), "{error}");
    }
}
