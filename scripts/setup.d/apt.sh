# shellcheck shell=bash
# Debian's package manager, as root or through sudo.

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        die "root access is needed, but sudo is not installed: $*" "run that command as root, and then this command again"
    fi
}

# --no-remove: never remove installed packages without the owner's decision.
apt_flags=(--quiet --yes --no-install-recommends --no-remove)

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${apt_flags[@]}" \
        -o DPkg::Lock::Timeout=120 "$@"
}

# apt_can PACKAGE…: returns whether apt can install the packages. Changes nothing and needs no root.
apt_can() { apt-get "${apt_flags[@]}" --simulate install "$@" >/dev/null 2>&1; }

# apt_candidate PACKAGE: prints the version that apt would install, without its epoch; nothing if there is none.
apt_candidate() {
    apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { sub(/^[0-9]+:/, "", $2); print $2 }'
}

# apt_install PACKAGE…
apt_install() {
    say "installing Debian packages (once; usually 1 to 3 minutes): $*"
    local log arguments=("$@")
    make_log
    if ! apt_can "$@"; then
        apt update >"$log" 2>&1 || die "apt-get update failed: $(tail -n 5 "$log")"
        if ! apt_can "$@"; then mapfile -t arguments < <(reconcile_qemu "$@"); fi
    fi
    # If the download fails, update the package lists: the mirror may have replaced packages since.
    apt install "${arguments[@]}" >"$log" 2>&1 ||
        { apt update && apt install "${arguments[@]}"; } >"$log" 2>&1 ||
        die "apt-get could not install ${arguments[*]}: $(tail -n 15 "$log")" \
            "apt-get install ${arguments[*]}"
    rm -f -- "$log"
}

# qemu-utils and qemu-system-x86 must have the same version, but the installed qemu-utils may be from a suite, such as
# backports, that is no longer in apt's sources. Prints arguments for apt that select the same version of both.
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
    say "no qemu-system-x86 matches the installed qemu-utils $held: installing version $wanted of both"
    printf '%s\n' "${pins[@]}" --allow-downgrades
}
