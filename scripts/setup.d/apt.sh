# shellcheck shell=bash
# Debian's package manager, as root or through sudo.

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        die "this needs root, and there is no sudo: $*" "run that command as root, then this one again"
    fi
}

# Nothing of the machine's own is removed to make room: that would be for its owner to decide.
apt_flags=(--quiet --yes --no-install-recommends --no-remove)

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${apt_flags[@]}" \
        -o DPkg::Lock::Timeout=120 "$@"
}

# Whether apt could install these. Needs no root: it changes nothing.
apt_can() { apt-get "${apt_flags[@]}" --simulate install "$@" >/dev/null 2>&1; }

# apt_candidate PACKAGE: prints the version that apt would install, without its epoch; nothing if there is none.
apt_candidate() {
    apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { sub(/^[0-9]+:/, "", $2); print $2 }'
}

# apt_install PACKAGE…
apt_install() {
    say "installing Debian packages (once; usually 1 to 3 minutes): $*"
    local log arguments=("$@")
    log=$(mktemp)
    if ! apt_can "$@"; then
        apt update >"$log" 2>&1 || die "apt-get update failed: $(tail -n 5 "$log")"
        if ! apt_can "$@"; then mapfile -t arguments < <(reconcile_qemu "$@"); fi
    fi
    # Package lists that still resolve may name files that the mirror has replaced since.
    apt install "${arguments[@]}" >"$log" 2>&1 ||
        { apt update && apt install "${arguments[@]}"; } >"$log" 2>&1 ||
        die "apt-get could not install ${arguments[*]}: $(tail -n 15 "$log")" \
            "see what apt-get itself says: apt-get install ${arguments[*]}"
    rm -f -- "$log"
}

# A machine can hold qemu-utils of a suite (backports) that is not among its sources any more. Its
# version then forbids the qemu-system-x86 that apt has to offer: both must be of one version.
# Prints the arguments for apt with which they are.
reconcile_qemu() {
    local held wanted package version pins=()
    printf '%s\n' "$@"
    held=$(dpkg-query -W -f='${db:Status-Status} ${Version}' qemu-utils 2>/dev/null) || return 0
    [[ $held == installed\ * && " $* " == *" qemu-system-x86 "* ]] || return 0
    held=${held#installed }
    if apt-cache madison qemu-system-x86 | awk '{ print $3 }' | grep -qxF -- "$held"; then
        printf '%s\n' "qemu-system-x86=$held"
        return
    fi
    wanted=$(apt-cache policy qemu-system-x86 | awk '$1 == "Candidate:" { print $2 }')
    while read -r package version; do
        if [[ $version == "$held" ]]; then pins+=("$package=$wanted"); fi
    done < <(dpkg-query -W -f='${Package} ${Version}\n' 'qemu-*' 2>/dev/null)
    say "qemu-utils $held has no matching qemu-system-x86 here: taking both at $wanted"
    printf '%s\n' "${pins[@]}" --allow-downgrades
}
