# shellcheck shell=bash
# clock.sh RTC: keeps the system's clock at the host's time, also after the machine or the host was paused. RTC is a directory of
# /sys/class/rtc: QEMU's hardware clock follows the host's clock, while the system's clock stops in a pause. It starts no
# program until it sets the clock.
#
# The hardware clock shows whole seconds, and QEMU starts it with the host's time cut to a second. It is therefore up to one
# second behind the host. The target is half a second after it: at most half a second from the host's time.
set -eu
rtc=${1:?}/since_epoch
# The decimal point of EPOCHREALTIME.
LC_ALL=C

# In microseconds.
second=1000000
half=$((second / 2))
interval=$((5 * second))
# Smaller differences are not worth a step, and may be delays of a busy processor.
tolerance=100000

# `read` waits on a pipe that nobody writes to: bash has no `sleep` of its own.
exec {never}<> <(:)

# show MICROSECONDS: sets `seconds`, with a sign.
show() {
    local sign=+ size=${1#-}
    if (($1 < 0)); then sign=-; fi
    printf -v seconds '%s%d.%06d' "$sign" $((size / second)) $((size % second))
}

# pause MICROSECONDS
pause() {
    local seconds
    printf -v seconds '%d.%06d' $(($1 / second)) $(($1 % second))
    read -r -t "$seconds" -u "$never" || :
}

# Succeeds if the hardware clock does not show the second of the system's clock. Near the end of a second, both may be right.
differs() {
    local before=$((${EPOCHREALTIME/./} - half)) shown after
    read -r shown <"$rtc"
    after=$((${EPOCHREALTIME/./} - half))
    ((shown < before / second || shown > after / second))
}

# Sets `difference` to the target minus the system's clock. Waits until the hardware clock's second begins, and again if the
# processor was away at that time.
measure() {
    local first shown before after tries
    for ((tries = 0; tries < 10; tries++)); do
        read -r first <"$rtc"
        shown=$first
        while ((shown == first)); do
            before=${EPOCHREALTIME/./}
            pause 10000
            read -r shown <"$rtc"
        done
        after=${EPOCHREALTIME/./}
        difference=$((shown * second + half - after))
        if ((after - before < tolerance && shown == first + 1)); then return; fi
    done
}

adjust() {
    local difference seconds
    measure
    if ((${difference#-} > tolerance)); then
        show "$difference"
        date --set "$seconds seconds" >/dev/null
        echo "set the clock by $seconds seconds"
    fi
}

adjust
phase=$((second / 4))
while :; do
    # A difference of a quarter of a second shows in one of two checks: one early and one late in the hardware clock's second.
    phase=$((second - phase))
    pause $((interval + (phase - (${EPOCHREALTIME/./} - half) % second + second) % second))
    if differs; then adjust; fi
done
