# shellcheck shell=bash
# What takes minutes and needs nothing of one another, side by side.

: "${here:?scripts/setup sets it: its own directory}"
crate=$here/../agent-vm-rs

# build_side_by_side run|check|build|image
build_side_by_side() {
    local parts=() setup prepare
    setup="exec $(printf %q "$here/setup") part"
    prepare=$(printf %q "$here/prepare-image")
    export PREFIX
    virtiofsd_is_there || parts+=("virtiofsd=$setup install_virtiofsd")
    mitmproxy_is_there || parts+=("mitmproxy=$setup install_mitmproxy")
    # What has no guest yet will need the default one. A failure is left to agent-vm, which says what is wrong.
    if [[ $1 == image ]] && ! compgen -G "${XDG_CACHE_HOME:-$HOME/.cache}/agent-vm/guests/debian-*" >/dev/null; then
        parts+=("image=$prepare || echo 'build-image: agent-vm tries again'")
    fi
    # Compiled before, it takes a moment and no words.
    if [[ $1 == build || $1 == image ]] && [[ ! -x $crate/target/release/agent-vm ]]; then
        parts+=("agent-vm=$setup compile_agent_vm")
    fi
    ((${#parts[@]} == 0)) || "$here/side-by-side" '3 to 6 minutes on two processors' "${parts[@]}"
}

compile_agent_vm() {
    exec cargo build --manifest-path "$crate/Cargo.toml" --target-dir "$crate/target" --locked --release
}
