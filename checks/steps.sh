# shellcheck shell=bash
# Functions and variables for the steps of checks/run.

: "${checks:?checks/run sets it: the directory of this file}"
: "${results:?checks/run sets it: the file that collects the results}"

# The defaults of scripts/setup.
: "${PREFIX:=$([[ $EUID -eq 0 ]] && echo /usr/local || echo "$HOME/.local")}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent-vm
# The pinned versions of the tools come first: another nixfmt may format differently.
PATH=$cache/check-tools:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin
target=$PWD/agent-vm-rs/target
crate=(--manifest-path "$PWD/agent-vm-rs/Cargo.toml" --target-dir "$target" --locked)
export PREFIX PATH

# record pass|fail|skip NAME[: REASON]: appends a line to $results. Control characters, which a test may print, are removed.
record() {
    local line=$*
    printf '%s\n' "${line//[[:cntrl:]]/ }" >>"$results"
}
passed() { record pass "$1" && echo "  passed: $1"; }
failed() { record fail "$1${2:+: $2}" && echo "  FAILED: $1${2:+: $2}"; }
skipped() { record skip "$1: $2" && echo "  skipped: $1: $2"; }

# check NAME COMMAND…: runs a test, which passes if the command succeeds. The output is shown if it fails.
check() {
    local name=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        passed "$name"
    else
        local status=$?
        cat -- "$log"
        failed "$name" "exit code $status"
    fi
    rm -f -- "$log"
}

# without PROGRAM NAME: records the test as skipped and returns 0 if the program is not on PATH; otherwise returns 1.
without() {
    type -P -- "$1" >/dev/null && return 1
    skipped "$2" "no $1 on PATH; make setup-check installs it"
}

# files PATTERN…: prints the files that git tracks, and new files that it does not ignore.
files() {
    git ls-files --cached --others --exclude-standard --deduplicate -- "$@" |
        while IFS= read -r file; do
            # A file can be deleted and still be in the index.
            if [[ -f $file ]]; then printf '%s\n' "$file"; fi
        done
}

# Prints the Nix files. Those in agent-vm-rs/render are templates, not complete Nix files.
nix_files() { files '*.nix' ':!agent-vm-rs/render'; }

# Without root and without a Nix daemon, use a store in the user's cache.
if [[ ! -w /nix/store && ! -S /nix/var/nix/daemon-socket/socket && $EUID -ne 0 ]]; then
    export NIX_STORE_DIR=$cache/nix/store NIX_STATE_DIR=$cache/nix/var NIX_LOG_DIR=$cache/nix/log
fi
export NIX_CONFIG="experimental-features = nix-command flakes
substitute = false
build-users-group ="

# in_memory COMMAND…: runs a command whose temporary files are in memory, if this account can mount file systems. The mount
# ends with the command.
in_memory() {
    local dir status
    if [[ $EUID -ne 0 ]] || ! unshare --mount true 2>/dev/null; then
        "$@"
        return
    fi
    # Short, because paths of sockets in it have at most 107 bytes.
    dir=$(mktemp -d /tmp/XXXXXX)
    # shellcheck disable=SC2016 # the inner shell's own variables
    unshare --mount -- sh -c 'mount -t tmpfs -o mode=0755 tmpfs "$1" && export TMPDIR="$1" && shift && exec "$@"' sh "$dir" "$@"
    status=$?
    rmdir -- "$dir"
    return "$status"
}

# nextest PROFILE NAME ARGUMENT…: runs Rust tests and records the result of each. The array `within` is a command to run them by.
within=()
nextest() {
    local profile=$1 name=$2 report status
    shift 2
    report=$target/nextest/$profile/junit.xml
    without cargo-nextest "$name" && return
    rm -f -- "$report"
    "${within[@]}" cargo nextest run "${crate[@]}" --config-file "$checks/nextest.toml" --profile "$profile" \
        --no-fail-fast --no-tests pass "$@"
    status=$?
    python3 "$checks/junit.py" "$name" "$status" "$report" | while IFS=$'\t' read -r what test why; do
        case $what in
        pass) record pass "$test" ;;
        fail) failed "$test" "$why" ;;
        skip) skipped "$test" "$why" ;;
        *) failed "$name" "checks/junit.py printed: $what" ;;
        esac
    done
    # Fail if junit.py could not read the report.
    [[ ${PIPESTATUS[0]} -eq 0 ]]
}
