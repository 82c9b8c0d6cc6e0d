# shellcheck shell=bash
# Programs that are compiled from the Rust registry, each at one version.

: "${here:?scripts/setup sets it: its own directory}"
virtiofsd_version=1.14.0
virtiofsd=$PREFIX/libexec/agent-vm/virtiofsd
# The last nextest that the crate's own minimum Rust still compiles.
nextest_version=0.9.114
nixfmt_version=0.5.3
deadnix_version=1.3.1
check_tools=${XDG_CACHE_HOME:-$HOME/.cache}/agent-vm/check-tools

virtiofsd_is_there() {
    [[ -x $virtiofsd && $("$virtiofsd" --version 2>/dev/null) == "virtiofsd $virtiofsd_version" ]]
}

# cargo_install CRATE VERSION PROGRAM PLACE [FLAG…]: compiles, with these flags of cargo's too, in a directory of its own
# and renames the program to its place, so that one in use is never half written.
cargo_install() {
    local crate=$1 version=$2 program=$3 place=$4 work
    shift 4
    say "compiling $crate $version (once; takes some minutes)"
    mkdir -p -- "$(dirname -- "$place")" ||
        die "cannot write to $(dirname -- "$place")" "choose another place: make PREFIX=DIR …"
    work=$(mktemp -d -- "$(dirname -- "$place")/.new-XXXXXX")
    if ! cargo install "$crate" --locked --version "=$version" --bin "$program" \
        "$@" --no-track --quiet --root "$work" >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        rm -rf -- "$work"
        die "could not compile $crate $version"
    fi
    mv -f -- "$work/bin/$program" "$place"
    rm -rf -- "$work"
}

# Debian 12 has only the older daemon written in C, which cannot map user ids.
install_virtiofsd() {
    virtiofsd_is_there || cargo_install virtiofsd "$virtiofsd_version" virtiofsd "$virtiofsd"
}

# The program alone, not installed: the package would start a web server.
unpack_nginx() {
    local work
    mkdir -p -- "$check_tools"
    work=$(mktemp -d -- "$check_tools/.new-XXXXXX")
    # Downloaded as whoever we are, into a directory that is ours.
    if ! (cd -- "$work" && apt-get --quiet -o APT::Sandbox::User=root download nginx && dpkg-deb --extract nginx_*.deb root) >"$work/log" 2>&1; then
        tail -n 5 "$work/log" >&2
        rm -rf -- "$work"
        die "could not download nginx" "apt-get update"
    fi
    mv -f -- "$work/root/usr/sbin/nginx" "$check_tools/nginx"
    rm -rf -- "$work"
}

# Debian 13 has no package of it. The lock is for its Python.
install_mitmproxy() {
    local place=$PREFIX/libexec/agent-vm/mitmproxy log
    if have mitmdump || [[ -x $place/bin/mitmdump ]]; then return; fi
    if apt_can mitmproxy || { apt update >/dev/null 2>&1 && apt_can mitmproxy; }; then
        apt_install mitmproxy
        return
    fi
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    say "installing mitmproxy from PyPI"
    log=$(mktemp)
    mkdir -p -- "${place%/*}"
    rm -rf -- "$place"
    # Programs of an environment name its path, so it is made in its place; mitmdump comes last of all.
    if ! { python3 -m venv "$place" &&
        "$place/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
            --requirement "$here/setup.d/mitmproxy.txt"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -rf -- "$place"
        die "could not install mitmproxy" "machines start without it, and reach nothing outside"
    fi
    rm -f -- "$log"
}

# mypy and pyflakes, as NixOS's test driver has them look at test scripts.
install_script_checkers() {
    local lock=$here/../checks/nixos-types/requirements.txt place log
    place=$check_tools/python-$(cat -- "$lock" <(python3 -VV) | sha256sum | cut -c1-16)
    if [[ ! -x $place/bin/pyflakes ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
        say "installing mypy and pyflakes from PyPI"
        log=$(mktemp)
        mkdir -p -- "$check_tools"
        rm -rf -- "$place"
        # As mitmproxy: in its place, and pyflakes comes last of all.
        if ! { python3 -m venv "$place" &&
            "$place/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
                --requirement "$lock"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -rf -- "$place"
            die "could not install mypy and pyflakes"
        fi
        rm -f -- "$log"
    fi
    ln -sfn -- "$place/bin/mypy" "$check_tools/mypy"
    ln -sfn -- "$place/bin/pyflakes" "$check_tools/pyflakes"
}

# Not optimized: compiling them takes longer than all that they do.
install_check_tools() {
    local -x CARGO_PROFILE_DEV_DEBUG=none
    have nginx || [[ -x $check_tools/nginx ]] || unpack_nginx
    have cargo-nextest || [[ -x $check_tools/cargo-nextest ]] ||
        cargo_install cargo-nextest "$nextest_version" cargo-nextest "$check_tools/cargo-nextest" --profile dev \
            --no-default-features --features default-no-update
    [[ -x $check_tools/nixfmt-$nixfmt_version ]] ||
        cargo_install nixfmt_rs "$nixfmt_version" nixfmt "$check_tools/nixfmt-$nixfmt_version" --profile dev
    [[ -x $check_tools/deadnix-$deadnix_version ]] ||
        cargo_install deadnix "$deadnix_version" deadnix "$check_tools/deadnix-$deadnix_version" --profile dev
    install_script_checkers
    ln -sfn -- "nixfmt-$nixfmt_version" "$check_tools/nixfmt"
    ln -sfn -- "deadnix-$deadnix_version" "$check_tools/deadnix"
}
