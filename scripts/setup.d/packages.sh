# shellcheck shell=bash
# Which Debian package brings what. A line is "what it must bring, the package"; what is looked for is
# a program, or with a slash a file (a pattern). Asking dpkg instead would overlook what came another way.

packages_for_run=(
    'nix nix-bin'
    'qemu-system-x86_64 qemu-system-x86'
    'qemu-img qemu-utils'
    'mmdebstrap mmdebstrap'
    'newuidmap uidmap'
    'unshare util-linux'
    'mke2fs e2fsprogs'
    'debugfs e2fsprogs'
    'e2fsck e2fsprogs'
    'tar tar'
    'zstd zstd'
    'ssh openssh-client'
    'git git'
    'bwrap bubblewrap'
    # For its socket proxy. elogind brings this program too, and would have to go: there it is done without.
    'loginctl systemd'
    'setpriv util-linux'
    '/usr/bin/python3 python3'
    '/usr/bin/pip3 python3-pip'
    'cc gcc'
    '/usr/include/x86_64-linux-gnu/bits/libc-header-start.h libc6-dev'
    '/etc/ssl/certs/ca-certificates.crt ca-certificates'
)

# To compile virtiofsd; asked for only while there is none.
packages_for_virtiofsd=(
    '/usr/include/cap-ng.h libcap-ng-dev'
    '/usr/include/seccomp.h libseccomp-dev'
)

packages_for_check=(
    'shellcheck shellcheck'
    'node nodejs'
    'npm npm'
    '/usr/lib/python3*/ensurepip/__init__.py python3-venv'
    'jq jq'
    'kill procps'
    'ip iproute2'
    'script bsdutils'
    'curl curl'
    'openssl openssl'
)

# missing_packages LINE…: prints the packages of the lines whose program or file is not there.
missing_packages() {
    local line what
    for line in "$@"; do
        what=${line% *}
        case $what in
        */*) compgen -G "$what" >/dev/null || printf '%s\n' "${line##* }" ;;
        *) have "$what" || printf '%s\n' "${line##* }" ;;
        esac
    done
}

# install_packages run|check
install_packages() {
    local lines=("${packages_for_run[@]}") packages
    if ! virtiofsd_is_there; then
        if debian_has_virtiofsd; then
            lines+=('/usr/libexec/virtiofsd virtiofsd')
        else
            lines+=("${packages_for_virtiofsd[@]}")
        fi
    fi
    if ! mitmproxy_is_there; then
        if debian_has_mitmproxy; then
            lines+=('mitmdump mitmproxy')
        elif ! python3 -c 'import ensurepip' 2>/dev/null; then
            lines+=('/usr/lib/python3*/ensurepip/__init__.py python3-venv')
        fi
    fi
    if [[ $1 == check ]]; then lines+=("${packages_for_check[@]}"); fi
    packages=$(missing_packages "${lines[@]}")
    [[ -z $packages ]] && return
    mapfile -t packages < <(sort -u <<<"$packages")
    if [[ ! -e /etc/debian_version ]] || ! have apt-get; then
        die "missing: ${packages[*]} (as Debian calls them), and this is not a Debian system" \
            "with Nix and its package collection in reach, use \`nix run .#agent\`"
    fi
    apt_install "${packages[@]}"
}

# Machines that root starts run as this account, which owns nothing else.
ensure_account() {
    [[ $EUID -ne 0 ]] || id -u agent-vm >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin agent-vm
}

# An ordinary user's image build maps a range of user ids of its own. Debian gives every user that
# adduser makes one, other ways of making users often do not.
ensure_subordinate_ids() {
    [[ $EUID -eq 0 ]] && return
    local user file flags=()
    user=$(id -un)
    for file in subuid subgid; do
        if ! grep -qs -e "^$user:" -e "^$EUID:" "/etc/$file"; then
            # The next free range: ranges of two users must not overlap.
            local start
            start=$(awk -F: 'BEGIN { e = 100000 } $2 + $3 > e { e = $2 + $3 } END { print e }' \
                /etc/subuid /etc/subgid 2>/dev/null || echo 100000)
            flags+=("--add-${file}s" "$start-$((start + 65535))")
        fi
    done
    if ((${#flags[@]})); then
        say "giving $user a range of subordinate ids"
        as_root usermod "${flags[@]}" "$user"
    fi
}
