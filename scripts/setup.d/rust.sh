# shellcheck shell=bash
# The Rust toolchain is a prerequisite; this script does not install it.

# require_rust CARGO_TOML: fails unless cargo and rustc are at least the manifest's rust-version.
require_rust() {
    local wanted version
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$1")
    local hint="install Rust $wanted or newer with rustup"
    hint+=" (on Debian 13: apt-get install rustup && rustup default stable)"
    if ! have cargo || ! have rustc; then die "cargo or rustc is not on PATH" "$hint"; fi
    # In the crate's directory, because rustup can select a toolchain for a directory.
    version=$(cd -- "$(dirname -- "$1")" && rustc --version) ||
        die "cannot run $(type -P rustc)" "$hint"
    version=${version#rustc }
    version=${version%%[ -]*}
    if ! printf '%s\n' "$wanted" "$version" | sort --check=silent --version-sort; then
        die "rustc has version $version, but agent-vm needs $wanted or newer" "$hint"
    fi
}
