//! Renders the machine's flake from its settings, and checks that the result is valid Nix.

use anyhow::{Context as _, Result};
use askama::Template;

use crate::guest::manifest::Share;
use crate::guest::nix;
use crate::machine::settings::{GuestKind, Settings};

#[derive(Template)]
#[template(path = "debian.nix")]
struct DebianFlake<'a> {
    branch: &'a str,
    toolkit: &'a str,
    packages: &'a [String],
    servers: &'a [String],
    proxy: &'a str,
    agents: &'a [String],
    share: &'a str,
    snapshot: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "nixos.nix")]
struct NixosFlake<'a> {
    branch: &'a str,
    toolkit: &'a str,
    system: &'a str,
    packages: &'a [String],
    servers: &'a [String],
    proxy: &'a str,
    agents: &'a [String],
    share: &'a str,
}

/// Returns the text of a machine's `flake.nix`. Memory, ports and the like are passed at run time and are not in it,
/// so that machines with the same settings share one guest. `snapshot` is that of Debian, if it is not the toolkit's.
///
/// # Errors
/// The text is not valid Nix, which is a bug in a template.
pub fn flake(settings: &Settings, toolkit: &str, share: Share, snapshot: Option<&str>) -> Result<String> {
    let (branch, share) = (settings.branch.as_str(), share.as_str());
    let Settings { packages, servers, agents, .. } = settings;
    let proxy = settings.proxy.name();
    let text = match settings.guest {
        GuestKind::Debian => {
            DebianFlake { branch, toolkit, packages, servers, proxy, agents, share, snapshot }.render()
        }
        GuestKind::Nixos => {
            let system = match std::env::consts::ARCH {
                "aarch64" => "aarch64-linux",
                _ => "x86_64-linux",
            };
            NixosFlake { branch, toolkit, system, packages, servers, proxy, agents, share }.render()
        }
    }
    .context("failed to render flake.nix")?;
    nix::check_syntax(&text, "the rendered flake.nix")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    fn settings(guest: GuestKind, branch: &str) -> Settings {
        Settings { guest, branch: branch.parse().unwrap(), ..sample() }
    }

    #[test]
    fn rendered_flakes_match_the_snapshots() {
        let debian =
            flake(&settings(GuestKind::Debian, "feature/x"), "path:/opt/toolkit", Share::Virtiofs, None).unwrap();
        insta::assert_snapshot!("debian_flake", debian);
        let nixos = flake(&settings(GuestKind::Nixos, "feature/x"), "github:o/r", Share::NineP, None).unwrap();
        insta::assert_snapshot!("nixos_flake", nixos.replace("aarch64-linux", "x86_64-linux"));
    }

    #[test]
    fn a_chosen_snapshot_is_in_the_flake() {
        let of = |snapshot| flake(&settings(GuestKind::Debian, "x"), "path:/t", Share::Virtiofs, snapshot).unwrap();
        assert!(of(Some("20270102T000000Z")).contains("snapshot = \"20270102T000000Z\";"));
        assert!(!of(None).contains("snapshot"));
    }

    #[test]
    fn a_hostile_branch_stays_a_string() {
        for guest in [GuestKind::Debian, GuestKind::Nixos] {
            for branch in ["\"; }", "${abort}", "$(id)", "a\"b", "''${x}''", "$"] {
                let Ok(branch) = branch.parse::<crate::machine::branch::BranchName>() else { continue };
                let mut settings = settings(guest, "main");
                settings.branch = branch;
                flake(&settings, "path:/opt/${x}\"toolkit", Share::Virtiofs, Some("${x}\"")).unwrap();
            }
        }
    }
}
