# shellcheck shell=bash
# The Rust toolchain: expected, never installed, because which one a person has is theirs to say.

# require_rust CARGO_TOML: fails unless cargo and rustc are at least the manifest's rust-version.
require_rust() {
    local wanted version
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$1")
    local hint="install Rust $wanted or newer with rustup"
    hint+=" (on Debian 13: apt-get install rustup && rustup default stable)"
    if ! have cargo || ! have rustc; then die "no Rust toolchain: cargo and rustc are not on PATH" "$hint"; fi
    # In agent-vm-rs, as a toolchain can be set for a directory.
    version=$(cd -- "$(dirname -- "$1")" && rustc --version) ||
        die "rustc does not run: $(type -P rustc)" "$hint"
    version=${version#rustc }
    version=${version%%[ -]*}
    if ! printf '%s\n' "$wanted" "$version" | sort --check=silent --version-sort; then
        die "rustc is $version, and agent-vm needs $wanted or newer" "$hint"
    fi
}
