//! Finds virtiofsd on this host, and checks that it can be confined.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::host::process::{self, Invocation};
use crate::host::programs::virtiofsd_places;
use crate::term::error::Failure;
use crate::vm::qemu_args::Virtiofsd;

/// The first version that has `--translate-uid`. (The older C program of the same name has other options.)
const OLDEST: (u32, u32) = (1, 13);
/// virtiofsd's own default limit of open files.
const OPEN_FILES: u64 = 1_000_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a virtiofsd that can serve a workspace.
///
/// # Errors
/// It is missing or too old, or this host provides no user namespaces to confine it.
pub fn find() -> Result<Virtiofsd> {
    let mut too_old = None;
    for place in virtiofsd_places() {
        let Ok(program) = process::find(place.as_os_str()) else { continue };
        match version(&program) {
            Some(version) if version >= OLDEST => {
                check_namespaces()?;
                // A link may lead to a place that its confinement hides.
                let program =
                    program.canonicalize().with_context(|| format!("failed to find {}", program.display()))?;
                return Ok(Virtiofsd { program, open_files: open_files() });
            }
            _ => too_old = Some(program),
        }
    }
    Err(match too_old {
        Some(program) => Failure::new(format!("{} is older than {}.{}", program.display(), OLDEST.0, OLDEST.1)).into(),
        None => Failure::new("virtiofsd is not installed").into(),
    })
}

fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Invocation::new(program).arg("--version").time_limit(TIMEOUT).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("virtiofsd ")?.trim().split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn check_namespaces() -> Result<()> {
    let probe =
        Invocation::new("unshare").args(["--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"]);
    probe.time_limit(TIMEOUT).checked().context("cannot confine virtiofsd: this host allows no user namespaces")?;
    Ok(())
}

/// Returns the number of files that virtiofsd may have open. It cannot raise the hard limit from inside its namespace.
fn open_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rust_program_counts() {
        assert_eq!(parse_version("virtiofsd 1.13.2\n"), Some((1, 13)));
        assert_eq!(parse_version("virtiofsd version 7.2.22 (Debian)"), None);
        assert_eq!(parse_version(""), None);
        assert!((1, 9) < OLDEST && (1, 14) >= OLDEST && (2, 0) >= OLDEST);
    }
}
