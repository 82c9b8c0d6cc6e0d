# shellcheck shell=bash
# PROXY-PORT HOST PORT: connects standard input and output to a host through the egress proxy. Needs `cat` on PATH.
proxy=$1 host=$2 port=$3
case $host in *:*) host=[$host] ;; esac
exec 3<>"/dev/tcp/127.0.0.1/$proxy" || exit 1
printf 'CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n' "$host:$port" "$host:$port" >&3
IFS= read -r status <&3 || status="HTTP/1.1 the egress proxy closed the connection"
status=${status%$'\r'}
case $status in
    "HTTP/1."[01]" 200"*) ;;
    *)
        printf '%s\n' "${status#* }" >&2
        exit 1
        ;;
esac
while IFS= read -r line <&3 && [ "$line" != $'\r' ]; do :; done
cat <&3 3>&- &
# Otherwise ssh would not notice that the other side has closed.
exec >&-
cat >&3
kill $! 2>/dev/null
