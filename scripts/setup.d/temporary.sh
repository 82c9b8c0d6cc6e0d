# shellcheck shell=bash
# Temporary directories beside what is installed, for files that are renamed once they are complete.

temporaries=()

# make_temporary DIR: creates a directory in DIR and sets `temporary` to its path. It is removed when this shell ends, at the latest.
# Also removes those that killed runs left more than two hours ago.
make_temporary() {
    find "$1" -mindepth 1 -maxdepth 1 -name '.new-*' -mmin +120 -exec rm -rf -- {} + 2>/dev/null || true
    temporary=$(mktemp -d -- "$1/.new-XXXXXX") || return
    temporaries+=("$temporary")
    trap 'rm -rf -- "${temporaries[@]}"' EXIT
}
