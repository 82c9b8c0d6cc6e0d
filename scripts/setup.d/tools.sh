# shellcheck shell=bash
# Programs that Debian lacks or has only in old versions, with pinned versions.

: "${here:?scripts/setup sets it: its own directory}"
# The last version that the crate's minimum Rust version can compile.
nextest_version=0.9.114
nixfmt_version=0.5.3
deadnix_version=1.3.1
check_tools=${XDG_CACHE_HOME:-$HOME/.cache}/agent-vm/check-tools

# logged FILE COMMAND…: runs a command with its output in FILE, and prints the last lines if it fails. If scripts/run-parallel
# runs this script, it shows the output itself.
logged() {
    local file=$1
    shift
    if [[ -n ${AGENT_VM_RUN_PARALLEL-} ]]; then
        "$@"
    elif ! "$@" >"$file" 2>&1; then
        tail -n 20 "$file" >&2
        return 1
    fi
}

# cargo_install CRATE VERSION PROGRAM PLACE [FLAG…]: compiles a program in a temporary directory, with additional flags for
# cargo, and renames it to PLACE, so that PLACE is always a complete program.
cargo_install() {
    local crate=$1 version=$2 program=$3 place=$4 temporary
    shift 4
    say "compiling $crate $version (once; usually 1 to 3 minutes)"
    make_directory "$(dirname -- "$place")" ||
        die "cannot write to $(dirname -- "$place")" "make install PREFIX=DIR"
    make_temporary "$(dirname -- "$place")"
    logged "$temporary/log" cargo install "$crate" --locked --version "=$version" --bin "$program" "$@" --no-track \
        --root "$temporary" || die "cannot compile $crate $version"
    chmod 755 "$temporary/bin/$program"
    move_into_place "$temporary/bin/$program" "$place"
    rm -rf -- "$temporary"
}

# unpack_program PACKAGE PATH: unpacks one program of a Debian package to $check_tools. Its installation would start a server.
unpack_program() {
    local package=$1 program=$2 temporary
    mkdir -p -- "$check_tools"
    make_temporary "$check_tools"
    # apt's sandbox user could not write to this directory.
    if ! (cd -- "$temporary" && apt-get --quiet -o APT::Sandbox::User=root download "$package" &&
        dpkg-deb --extract "$package"_*.deb root) >"$temporary/log" 2>&1; then
        tail -n 5 "$temporary/log" >&2
        die "cannot download $package" "apt-get update"
    fi
    move_into_place "$temporary/root/$program" "$check_tools/${program##*/}"
    rm -rf -- "$temporary"
}

mitmproxy_is_installed() { have mitmdump || [[ -x $PREFIX/libexec/agent-vm/mitmproxy/bin/mitmdump ]]; }

# Debian 12 has mitmproxy, Debian 13 does not.
debian_has_mitmproxy() { have apt-get && { apt_can mitmproxy || { apt update >/dev/null 2>&1 && apt_can mitmproxy; }; }; }

# Installs mitmproxy from PyPI. The lock file is for Debian 13's Python.
install_mitmproxy() {
    local place=$PREFIX/libexec/agent-vm/mitmproxy log
    say "installing mitmproxy from PyPI (once; usually a minute)"
    make_log
    make_directory "${place%/*}" || die "cannot write to ${place%/*}" "make install PREFIX=DIR"
    # Other users run it.
    ((EUID != 0)) || umask 022
    rm -rf -- "$place"
    # A virtual environment cannot be moved, so it is created at its final path. pip creates mitmdump last, so mitmdump exists
    # only if the installation is complete.
    if ! { logged "$log" python3 -m venv "$place" &&
        logged "$log" "$place/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
            --requirement "$here/setup.d/mitmproxy.txt"; }; then
        rm -rf -- "$place"
        die "cannot install mitmproxy from PyPI" "machines start without it, but have no network access"
    fi
    rm -f -- "$log"
}

# mypy and pyflakes, with which NixOS's test driver checks test scripts, and the parser of OpenMetrics.
install_python_checkers() {
    local lock=$here/../checks/python-tools/requirements.txt place log
    place=$check_tools/python-$(cat -- "$lock" <(python3 -VV) | sha256sum | cut -c1-16)
    if [[ ! -x $place/bin/pyflakes ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
        say "installing mypy, pyflakes and prometheus_client from PyPI"
        make_log
        mkdir -p -- "$check_tools"
        rm -rf -- "$place"
        # Like mitmproxy: created at its final path, and pyflakes is created last.
        if ! { python3 -m venv "$place" &&
            "$place/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
                --requirement "$lock"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -rf -- "$place"
            die "cannot install mypy, pyflakes and prometheus_client from PyPI"
        fi
        rm -f -- "$log"
    fi
    link_into_place "$place/bin/mypy" "$check_tools/mypy"
    link_into_place "$place/bin/pyflakes" "$check_tools/pyflakes"
}

# Without optimization, because compiling these tools takes longer than running them.
install_check_tools() {
    local -x CARGO_PROFILE_DEV_DEBUG=none
    have nginx || [[ -x $check_tools/nginx ]] || unpack_program nginx usr/sbin/nginx
    have promtool || [[ -x $check_tools/promtool ]] || unpack_program prometheus usr/bin/promtool
    have cargo-nextest || [[ -x $check_tools/cargo-nextest ]] ||
        cargo_install cargo-nextest "$nextest_version" cargo-nextest "$check_tools/cargo-nextest" --profile dev \
            --no-default-features --features default-no-update
    [[ -x $check_tools/nixfmt-$nixfmt_version ]] ||
        cargo_install nixfmt_rs "$nixfmt_version" nixfmt "$check_tools/nixfmt-$nixfmt_version" --profile dev
    [[ -x $check_tools/deadnix-$deadnix_version ]] ||
        cargo_install deadnix "$deadnix_version" deadnix "$check_tools/deadnix-$deadnix_version" --profile dev
    install_python_checkers
    link_into_place "nixfmt-$nixfmt_version" "$check_tools/nixfmt"
    link_into_place "deadnix-$deadnix_version" "$check_tools/deadnix"
}
