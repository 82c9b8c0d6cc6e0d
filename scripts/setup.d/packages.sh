# shellcheck shell=bash
# Programs and files, and the Debian packages that contain them: "PROGRAM PACKAGE" or "PATH-PATTERN PACKAGE". Only missing
# programs and files are installed, because they may have been installed without dpkg.

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
    # For systemd-socket-proxyd. On a system with elogind, loginctl exists, and systemd is not installed, because it would
    # replace elogind.
    'loginctl systemd'
    'setpriv util-linux'
    '/usr/bin/python3 python3'
    '/usr/bin/pip3 python3-pip'
    'cc gcc'
    '/usr/include/x86_64-linux-gnu/bits/libc-header-start.h libc6-dev'
    '/etc/ssl/certs/ca-certificates.crt ca-certificates'
)

packages_for_check=(
    'shellcheck shellcheck'
    'node nodejs'
    'npm npm'
    '/usr/lib/python3*/ensurepip/__init__.py python3-venv'
    'jq jq'
    'rsync rsync'
    'kill procps'
    'ip iproute2'
    'script bsdutils'
    'curl curl'
    'openssl openssl'
)

# missing_packages LINE…: prints the packages of the lines whose program or file does not exist.
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
    local lines=("${packages_for_run[@]}")
    if ! virtiofsd_is_installed && debian_has_virtiofsd; then lines+=('/usr/libexec/virtiofsd virtiofsd'); fi
    if ! mitmproxy_is_installed; then
        if debian_has_mitmproxy; then
            lines+=('mitmdump mitmproxy')
        elif ! python3 -c 'import ensurepip' 2>/dev/null; then
            lines+=('/usr/lib/python3*/ensurepip/__init__.py python3-venv')
        fi
    fi
    if [[ $1 == check ]]; then lines+=("${packages_for_check[@]}"); fi
    install_missing "${lines[@]}"
}

# install_missing LINE…: installs the packages of the lines whose program or file does not exist.
install_missing() {
    local packages
    packages=$(missing_packages "$@")
    [[ -z $packages ]] && return
    mapfile -t packages < <(sort -u <<<"$packages")
    if [[ ! -e /etc/debian_version ]] || ! have apt-get; then
        die "missing Debian packages: ${packages[*]}, and this is not a Debian system" \
            "install the same programs, or use Nix: nix run .#agent"
    fi
    apt_install "${packages[@]}"
}

# Account for machines that root starts. It owns nothing else.
ensure_account() {
    [[ $EUID -ne 0 ]] || id -u agent-vm >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin agent-vm
}

# An ordinary user's image build needs a range of subordinate IDs. adduser assigns one to new users, but other programs that
# create users often do not.
ensure_subordinate_ids() {
    [[ $EUID -eq 0 ]] && return
    local user file flags=()
    user=$(id -un)
    for file in subuid subgid; do
        if ! grep -qs -e "^$user:" -e "^$EUID:" "/etc/$file"; then
            # The next free range, because ranges must not overlap.
            local start
            start=$(awk -F: 'BEGIN { e = 100000 } $2 + $3 > e { e = $2 + $3 } END { print e }' \
                /etc/subuid /etc/subgid 2>/dev/null || echo 100000)
            flags+=("--add-${file}s" "$start-$((start + 65535))")
        fi
    done
    if ((${#flags[@]})); then
        say "adding a range of subordinate IDs for $user"
        as_root usermod "${flags[@]}" "$user"
    fi
}
