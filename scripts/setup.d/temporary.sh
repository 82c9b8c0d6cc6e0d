# shellcheck shell=bash
# Temporary files, and what they become: files with their final names, which are always complete.

temporaries=()

# make_temporary DIR: creates a directory in DIR and sets `temporary` to its path. It is removed when this shell ends, at the latest.
# Also removes those that killed runs left more than two hours ago.
make_temporary() {
    # A leftover that cannot be removed, such as another user's, must not stop the set-up.
    find "$1" -mindepth 1 -maxdepth 1 -name '.new-*' -mmin +120 -exec rm -rf -- {} + 2>/dev/null || true
    temporary=$(mktemp -d -- "$1/.new-XXXXXX") || return
    remove_at_end "$temporary"
}

# make_log: creates a file and sets `log` to its path. It is removed when this shell ends, at the latest.
make_log() {
    log=$(mktemp) || return
    remove_at_end "$log"
}

remove_at_end() {
    temporaries+=("$1")
    trap 'rm -rf -- "${temporaries[@]}"' EXIT
}

# until_signal COMMAND…: runs a command. A signal that ends this shell ends the command first, and the shell waits until it has
# removed its temporary files.
until_signal() {
    local status=0
    trap 'kill -- $(jobs -p) 2>/dev/null || true; wait; exit 143' HUP INT TERM
    "$@" &
    wait "$!" || status=$?
    trap - HUP INT TERM
    return "$status"
}

# make_directory DIR: creates a directory and its parents. What root installs can be used by all users, whatever the umask is.
make_directory() (
    ((EUID != 0)) || umask 022
    mkdir -p -- "$1"
)

# move_into_place NEW PLACE: renames a file, and fails with an error if PLACE is a directory.
move_into_place() {
    require_no_directory "$2"
    mv -fT -- "$1" "$2" || die "cannot install $2"
}

# link_into_place TARGET LINK: creates or replaces a link, and fails with an error if LINK is a directory.
link_into_place() {
    require_no_directory "$2"
    ln -sfnT -- "$1" "$2" || die "cannot create the link $2"
}

# require_no_directory PLACE: fails if PLACE is a directory where a program is to be installed.
require_no_directory() {
    if [[ -d $1 && ! -L $1 ]]; then
        die "cannot install $1: it is a directory" "rename it: mv -T -- $(printf %q "$1") $(printf %q "$1.old")"
    fi
}
