# shellcheck shell=bash
# Runs long, independent parts of the set-up in parallel.

: "${here:?scripts/setup sets it: its own directory}"
: "${virtiofsd:?setup.d/virtiofsd.sh sets it: the program to install}"
crate=$here/../agent-vm-rs

# build_in_parallel run|check|build|image
build_in_parallel() {
    local parts=() setup prepare
    setup="$(printf %q "$here/setup") part"
    prepare=$(printf %q "$here/prepare-image")
    export PREFIX
    # A failure is not fatal (?=): virtiofsd is compiled after this.
    if ! virtiofsd_is_installed; then
        require_no_directory "$virtiofsd"
        parts+=("virtiofsd?=exec $setup unpack_virtiofsd")
    fi
    mitmproxy_is_installed || parts+=("mitmproxy=exec $setup install_mitmproxy")
    # Without any guest, the first machine most likely needs the default one. A failure is not fatal: agent-vm builds the image
    # again and reports the error.
    if [[ $1 == image ]] && ! compgen -G "${XDG_CACHE_HOME:-$HOME/.cache}/agent-vm/guests/debian-*" >/dev/null; then
        # The image contains the gateway.
        parts+=("image?=$setup compile_gateway && exec $prepare")
    fi
    # An incremental build is quick, and `make program` does it.
    if [[ $1 == build || $1 == image ]] && [[ ! -x $crate/target/release/agent-vm ]]; then
        parts+=("agent-vm=exec $setup compile_agent_vm")
    fi
    ((${#parts[@]} == 0)) || until_signal "$here/run-parallel" '2 to 5 minutes on two processors' "${parts[@]}"
    virtiofsd_is_installed || compile_virtiofsd
}

# Compiles the gateway for the Debian guest, which has the C library of Debian 13 or a newer one than this host. It shares most
# of its dependencies with agent-vm.
compile_gateway() {
    local programs=$here/../lib/debian/programs built=$crate/target/release/agent-mcp
    cargo build --manifest-path "$crate/Cargo.toml" --target-dir "$crate/target" --package agent-mcp --locked --release
    cmp --silent -- "$built" "$programs/agent-mcp" && return
    install -m 755 -- "$built" "$programs/.agent-mcp-$$"
    mv -fT -- "$programs/.agent-mcp-$$" "$programs/agent-mcp"
}

compile_agent_vm() {
    exec cargo build --manifest-path "$crate/Cargo.toml" --target-dir "$crate/target" --locked --release
}
