//! Submodules come from the checkouts that the user's work tree has; nothing is downloaded.

use std::path::Path;

use anyhow::Result;

use super::{file_url, git_in};
use crate::process::Invocation;
use crate::progress::note;

pub(super) fn fill(source: &Path, workspace: &Path, marker: &Path) -> Result<()> {
    if !workspace.join(".gitmodules").is_file() {
        return Ok(());
    }
    let inside = || -> Invocation { git_in(workspace).of_machine(marker) };
    let list = inside()
        .args(["config", "--null", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$"])
        .output()?;
    for entry in String::from_utf8_lossy(&list.stdout).split('\0').filter(|entry| !entry.is_empty()) {
        let Some((key, path)) = entry.split_once('\n') else { continue };
        let name = key.trim_start_matches("submodule.").trim_end_matches(".path");
        let checkout = source.join(path);
        if !checkout.join(".git").exists() {
            note(&format!(
                "the submodule {path} stays empty: it is not checked out in {} (git submodule update --init)",
                source.display()
            ));
            continue;
        }
        inside().arg("config").arg(format!("submodule.{name}.url")).arg(file_url(&checkout)?).checked()?;
        let update = inside().args(["submodule", "--quiet", "update", "--init", "--"]).arg(path);
        match update.checked() {
            Ok(_) => fill(&checkout, &workspace.join(path), marker)?,
            Err(error) => note(&format!("the submodule {path} stays empty: {error:#}")),
        }
    }
    Ok(())
}
