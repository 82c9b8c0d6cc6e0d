"""Responses of the proxy itself. The one to a request that the rules refuse names the command that would allow it, or that
shows or changes what forbids it. The one to a failed CONNECT names the host and the reason.

For these, most clients show only the status line (pip, wget, apt, Go), curl and git only its number, and none
shows the body. The command is therefore in the status line and in the body.
"""

from mitmproxy import http

from rules import DENIED, OFF, normal

# Maximal length of a status line's text.
LONGEST = 300


def response(rules, host, port, reason):
    destination = written(host, port)
    commands = {
        OFF: f"agent-vm set {rules.machine} egress=allowlist",
        DENIED: f"agent-vm egress list {rules.machine}",
    }
    command = commands.get(reason, f"agent-vm egress allow --branch {rules.machine} {destination}")
    reason = rules.shown(host, port, reason)
    made = http.Response.make(
        403,
        f"agent-vm: {destination} is refused ({reason}). On the host: {command}\n",
        {
            "content-type": "text/plain; charset=utf-8",
            "connection": "close",
            "x-agent-vm": plain(command),
        },
    )
    made.data.reason = plain(f"Refused by agent-vm, {reason}; on the host: {command}").encode("ascii")
    return made


def unreachable(host, port, reason):
    """Returns the response to a CONNECT whose host cannot be reached. `reason` has no text from a peer."""
    words = f"cannot connect to {written(host, port)}: {reason}"
    made = http.Response.make(502, f"agent-vm: {words}\n", {"content-type": "text/plain; charset=utf-8", "connection": "close"})
    made.data.reason = plain(f"agent-vm {words}").encode("ascii")
    return made


def written(host, port):
    host = normal(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain(words):
    """Returns printable ASCII on one line, since the guest chooses the host's name."""
    return "".join(c if " " <= c <= "~" else "?" for c in words)[:LONGEST]
