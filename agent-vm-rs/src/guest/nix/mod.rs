//! Builds Nix command lines, and checks Nix syntax.

mod string;

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::host::process::Invocation;
use crate::term::error::Failure;
use crate::term::verbosity::Verbosity;
pub use string::NixString;

/// Options of every Nix call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call<'a> {
    /// How much Nix logs.
    pub verbosity: Verbosity,
    /// The user's own arguments (`--nix-arg`), which come last.
    pub args: &'a [String],
}

fn nix(verbosity: Verbosity) -> Invocation {
    let nix =
        Invocation::new("nix").args(["--extra-experimental-features", "nix-command flakes"]).with_our_environment();
    match verbosity {
        Verbosity::Normal => nix,
        Verbosity::Verbose => nix.arg("--verbose"),
        Verbosity::Debug => nix.arg("--debug"),
    }
}

/// Returns the flake reference of a directory.
fn path_reference(flake: &Path, attribute: &str) -> Result<String> {
    let path = flake.to_str().with_context(|| format!("the path {} is not valid UTF-8", flake.display()))?;
    Ok(format!("path:{}#{attribute}", percent_encoding::utf8_percent_encode(path, crate::git::URL_PATH)))
}

/// Returns the `nix eval` call of a flake's manifest. It uses a private store below `store`, so it needs no daemon, no
/// root and no /nix, and neither builds nor downloads anything.
///
/// # Errors
/// The flake's path is not valid UTF-8.
pub fn eval_manifest(flake: &Path, store: &Path, call: Call<'_>) -> Result<Invocation> {
    Ok(nix(call.verbosity)
        .args(["eval", "--json"])
        .arg(path_reference(flake, "manifest")?)
        .args(call.args)
        .env("NIX_STORE_DIR", store.join("store"))
        .env("NIX_STATE_DIR", store.join("var/nix"))
        .env("NIX_LOG_DIR", store.join("var/log"))
        .env("NIX_REMOTE", "")
        .env("NIX_CONFIG", "build-users-group =\nsubstitute = false\nsandbox = false\nwarn-dirty = false"))
}

/// Returns the `nix build` call of a flake's guest, with `link` as its garbage collector root.
///
/// # Errors
/// The flake's path is not valid UTF-8.
pub fn build_guest(flake: &Path, link: &Path, call: Call<'_>) -> Result<Invocation> {
    let build = nix(call.verbosity).args(["build", "--print-build-logs", "--out-link"]).arg(link);
    Ok(build.arg(path_reference(flake, "guest")?).args(call.args))
}

/// Returns the `nix flake lock` call of a flake. `moved` pins one input to a reference. With `refresh` Nix ignores
/// what it has cached of references.
///
/// # Errors
/// The flake's path is not valid UTF-8.
pub fn lock_flake(flake: &Path, moved: Option<(&str, &str)>, refresh: bool, call: Call<'_>) -> Result<Invocation> {
    let reference = path_reference(flake, "")?;
    let mut lock = nix(call.verbosity).args(["flake", "lock"]).arg(reference.trim_end_matches('#'));
    if refresh {
        lock = lock.arg("--refresh");
    }
    if let Some((input, to)) = moved {
        // The lock keeps the flake's own reference as the original, so the override lasts until the next one.
        lock = lock.args(["--override-input", input, to]);
    }
    Ok(lock.args(call.args))
}

/// Checks that Nix can parse a text.
///
/// # Errors
/// The first syntax error.
pub fn check_syntax(text: &str, what: &str) -> Result<()> {
    match rnix::Root::parse(text).errors().first() {
        None => Ok(()),
        Some(error) => Err(Failure::new(format!("{what} is not valid Nix: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_stays_in_its_own_store() {
        let call = Call { verbosity: Verbosity::Debug, args: &["--offline".into()] };
        let eval = eval_manifest(Path::new("/s/a b/flake"), Path::new("/c/nix"), call).unwrap();
        assert_eq!(
            eval.to_string(),
            "nix --extra-experimental-features 'nix-command flakes' --debug eval --json \
             'path:/s/a%20b/flake#manifest' --offline"
        );
        assert!(eval.env.contains(&("NIX_STORE_DIR".into(), "/c/nix/store".into())));
    }

    #[test]
    fn syntax_errors_are_detected() {
        assert!(check_syntax("{ a = \"x\"; }", "it").is_ok());
        assert!(check_syntax("{ a = \"x; }", "it").is_err());
    }
}
