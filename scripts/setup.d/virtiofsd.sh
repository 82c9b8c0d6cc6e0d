# shellcheck shell=bash
# virtiofsd: Debian 13's package if this is Debian 13; otherwise the same program with its libraries, unpacked from there; otherwise
# compiled, which takes ten times as long.

: "${here:?scripts/setup sets it: its own directory}"
virtiofsd_version=1.14.0
# The oldest version that agent-vm accepts (agent-vm-rs/src).
virtiofsd_oldest=1.13
virtiofsd=$PREFIX/libexec/agent-vm/virtiofsd

virtiofsd_is_installed() { is_virtiofsd "$virtiofsd" || is_virtiofsd /usr/libexec/virtiofsd; }

# is_virtiofsd PROGRAM: returns whether it is a version that agent-vm accepts.
is_virtiofsd() { is_new_enough "$(virtiofsd_says "$1" 2>/dev/null | sed -n 's/^virtiofsd \([0-9.]*\)$/\1/p')"; }

# virtiofsd_says PROGRAM: prints its version. With a time limit, because it may hang.
virtiofsd_says() { timeout --kill-after=2 "${virtiofsd_timeout:-10}" "$1" --version; }

# Debian 13 has a recent version. Debian 12 has only the older implementation in C, in another package.
debian_has_virtiofsd() { is_new_enough "$(apt_candidate virtiofsd)"; }

is_new_enough() { [[ -n $1 ]] && printf '%s\n' "$virtiofsd_oldest" "$1" | sort --check=silent --version-sort; }

# Prints the program to install for an unpacked virtiofsd, which needs newer libraries than this system's.
virtiofsd_launcher() {
    cat <<'SCRIPT'
#!/bin/sh
dir=$(dirname -- "$(readlink -f -- "$0")")/virtiofsd.debian
exec "$dir/virtiofsd" --argv0 virtiofsd --library-path "$dir" "$dir/program" "$@"
SCRIPT
}

# Unpacks virtiofsd and the libraries it needs from the Debian release that guests have.
unpack_virtiofsd() {
    local place suite temporary said
    place=$(dirname -- "$virtiofsd")
    suite=$(sed -n 's/^ *suite = "\([a-z]*\)";$/\1/p' "$here/../lib/debian/spec.nix")
    make_directory "$place" && make_temporary "$place" && mkdir -- "$temporary/root" || return
    until_signal "$here/setup.d/unpack-debian" "$suite" virtiofsd "$temporary/root" || return
    virtiofsd_with_libraries "$temporary/root" "$temporary/virtiofsd.debian" ||
        die "cannot unpack virtiofsd from Debian $suite: it or a library is missing"
    virtiofsd_launcher >"$temporary/virtiofsd"
    chmod 755 "$temporary/virtiofsd"
    if ! is_virtiofsd "$temporary/virtiofsd"; then
        said=$(virtiofsd_says "$temporary/virtiofsd" 2>&1) || said+=" (exit status $?)"
        die "virtiofsd from Debian $suite does not run here: ${said##*$'\n'}"
    fi
    rm -rf -- "$place/virtiofsd.debian"
    mv -T -- "$temporary/virtiofsd.debian" "$place/virtiofsd.debian"
    move_into_place "$temporary/virtiofsd" "$virtiofsd"
    rm -rf -- "$temporary"
}

# virtiofsd_with_libraries ROOT DIR: copies virtiofsd, its libraries and their loader from ROOT to DIR. The loader has the name of
# the program, which lists of processes show.
virtiofsd_with_libraries() {
    local libraries=$1/usr/lib/x86_64-linux-gnu program=$1/usr/libexec/virtiofsd loader list line needed=()
    loader=$libraries/ld-linux-x86-64.so.2
    list=$("$loader" --library-path "$libraries" --list "$program") || return
    # The loader prints "NAME => PATH (ADDRESS)".
    while read -r line; do
        line=${line#* => }
        if [[ $line == "$libraries/"* ]]; then needed+=("${line% (0x*}"); fi
    done <<<"$list"
    mkdir -- "$2" && cp --dereference -- "${needed[@]}" "$2" && cp -- "$program" "$2/program" && cp -- "$loader" "$2/virtiofsd" &&
        chmod -R u=rwX,go=rX -- "$2"
}

# Without LTO, which would compile on one processor only. virtiofsd spends most of its time in system calls.
compile_virtiofsd() {
    local -x CARGO_PROFILE_RELEASE_LTO=off
    install_missing '/usr/include/cap-ng.h libcap-ng-dev' '/usr/include/seccomp.h libseccomp-dev'
    cargo_install virtiofsd "$virtiofsd_version" virtiofsd "$virtiofsd"
}
