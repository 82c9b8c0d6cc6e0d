//! Validates a manifest, so that no value can escape from an option or a path.

use std::path::{Component, Path};

use anyhow::{Result, ensure};

use super::Manifest;

pub(super) fn check(manifest: &Manifest) -> Result<()> {
    let words = [
        &manifest.qemu.binary,
        &manifest.qemu.cpu.kvm,
        &manifest.qemu.cpu.tcg,
        &manifest.user.name,
        &manifest.workspace.tag,
        &manifest.workspace.path,
        &manifest.service.unit,
        &manifest.service.gate_unit,
        &manifest.disk.label,
    ];
    let prefix = manifest.qemu.start.as_ref().map(|start| &start.credential_prefix);
    let others = prefix.into_iter().chain(&manifest.service.servers_state).chain(&manifest.root_setup);
    for word in words.into_iter().chain(others).chain(manifest.credentials.all()) {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-,=+/@".contains(c));
        ensure!(plain && !word.is_empty() && !word.starts_with('-'), "invalid manifest: {word:?} is not a plain word");
    }
    for path in [
        &manifest.service.mcp_path,
        &manifest.service.sse_path,
        &manifest.service.health_path,
        &manifest.service.servers_path,
    ]
    .into_iter()
    .chain(&manifest.service.renewal_path)
    {
        ensure!(path.starts_with('/'), "invalid manifest: {path:?} is not a URL path");
    }
    ensure!(
        is_inside(&manifest.runner),
        "invalid manifest: the runner {} is outside the guest package",
        manifest.runner.display()
    );
    ensure!(
        manifest.kernel.is_absolute() || is_inside(&manifest.kernel),
        "invalid manifest: the kernel {} is outside the guest package",
        manifest.kernel.display()
    );
    if let Some(image) = &manifest.image {
        let hash = &image.hash;
        ensure!(
            hash.len() >= 16 && hash.chars().all(|c| c.is_ascii_hexdigit()),
            "invalid manifest: {hash:?} is not a hash"
        );
        ensure!(
            image.builder.is_absolute(),
            "invalid manifest: the builder {} is not an absolute path",
            image.builder.display()
        );
    }
    Ok(())
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::SAMPLE;
    use super::*;

    #[test]
    fn invalid_manifests_are_refused() {
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"disk\"", "\"dsik\""),
            ("\"workspace\",", "\"work space\","),
            ("bin/run-agent-vm", "../run-agent-vm"),
            ("\"/mcp\"", "\"mcp\""),
            ("\"dev\"", "\"-dev\""),
        ] {
            assert_ne!(SAMPLE.replace(from, to), SAMPLE, "{from} is not in the sample");
            assert!(Manifest::parse(&SAMPLE.replace(from, to)).is_err(), "{to} was accepted");
        }
    }
}
