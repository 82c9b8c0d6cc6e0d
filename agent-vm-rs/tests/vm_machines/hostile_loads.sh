# Uses all of a machine's disk, memory, processes, console and journal. Runs as root of the guest.
exec </dev/null >/dev/console 2>&1
# Zeros would take no space on the host.
yes | head -c 4000000000 >/var/tmp/full
echo "the disk is full: $(df /var/tmp | tail -n 1)"
# The kernel ends it.
tail /dev/zero
echo "the memory was full: $?"
count=0
while [ $count -lt 400 ]; do
    sleep 10000 &
    count=$((count + 1))
done
echo "there are many processes: $count"
while :; do sleep 10000 & done &
while :; do yes "a line of the journal" | head -n 100000 | systemd-cat; done &
while :; do tail /dev/zero; done &
exec yes "a line of the console"
