# shellcheck shell=bash
# What a step of checks/run can say and use.

: "${checks:?checks/run sets it: the directory of this file}"
: "${results:?checks/run sets it: the file that collects the results}"

# As scripts/setup has them.
: "${PREFIX:=$([[ $EUID -eq 0 ]] && echo /usr/local || echo "$HOME/.local")}"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent-vm
# Our own versions of the tools first: another nixfmt may format otherwise.
PATH=$cache/check-tools:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin
target=$PWD/agent-vm-rs/target
crate=(--manifest-path "$PWD/agent-vm-rs/Cargo.toml" --target-dir "$target" --locked)
export PREFIX PATH

# One line for each test in $results: pass, fail or skip, its name, and what there is to say.
# A name or a reason is one line, whatever a test printed.
record() {
    local line=$*
    printf '%s\n' "${line//[[:cntrl:]]/ }" >>"$results"
}
passed() { record pass "$1" && echo "  passed: $1"; }
failed() { record fail "$1${2:+: $2}" && echo "  FAILED: $1${2:+: $2}"; }
skipped() { record skip "$1: $2" && echo "  skipped: $1: $2"; }

# check NAME COMMAND…: a test that passes if the command does. Its output is shown if it fails.
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

# without PROGRAM NAME: true, and the test counted as skipped, if there is no such program.
without() {
    type -P -- "$1" >/dev/null && return 1
    skipped "$2" "no $1 on PATH; make setup-check installs it"
}

# files PATTERN…: what git tracks or would track, so that new files count and build outputs do not.
files() {
    git ls-files --cached --others --exclude-standard --deduplicate -- "$@" |
        while IFS= read -r file; do
            # A file can be deleted and still be in the index.
            if [[ -f $file ]]; then printf '%s\n' "$file"; fi
        done
}

# Nix without root and without a daemon: a store of the user's own.
if [[ ! -w /nix/store && ! -S /nix/var/nix/daemon-socket/socket && $EUID -ne 0 ]]; then
    export NIX_STORE_DIR=$cache/nix/store NIX_STATE_DIR=$cache/nix/var NIX_LOG_DIR=$cache/nix/log
fi
export NIX_CONFIG="experimental-features = nix-command flakes
substitute = false
build-users-group ="

# nextest PROFILE NAME ARGUMENT…: runs Rust tests and records each of them.
nextest() {
    local profile=$1 name=$2 report status
    shift 2
    report=$target/nextest/$profile/junit.xml
    without cargo-nextest "$name" && return
    rm -f -- "$report"
    cargo nextest run "${crate[@]}" --config-file "$checks/nextest.toml" --profile "$profile" \
        --no-fail-fast --no-tests pass "$@"
    status=$?
    python3 "$checks/junit.py" "$name" "$status" "$report" | while IFS=$'\t' read -r what test why; do
        case $what in
        pass) record pass "$test" ;;
        fail) failed "$test" "$why" ;;
        skip) skipped "$test" "$why" ;;
        *) failed "$name" "checks/junit.py said: $what" ;;
        esac
    done
    # The reader of the report has to have read it.
    [[ ${PIPESTATUS[0]} -eq 0 ]]
}
