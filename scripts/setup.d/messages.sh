# shellcheck shell=bash
# Functions for messages, which go to stderr.

say() { printf '%s\n' "$*" >&2; }

# die WHAT [HINT]
die() {
    printf 'error: %s\n' "$1" >&2
    if (($# > 1)); then printf 'hint: %s\n' "$2" >&2; fi
    exit 1
}

have() { type -P -- "$1" >/dev/null; }
