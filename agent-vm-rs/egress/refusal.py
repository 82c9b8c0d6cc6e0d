"""The proxy's answer to what the rules refuse: it names the command that would let it through.

Of the answer to CONNECT most clients show the status line alone (pip, wget, apt, Go), curl and git its number, and none
the body; so the command is in both.
"""

from mitmproxy import http

from rules import normal

# Of a status line.
LONGEST = 300


def response(rules, host, port, reason):
    host = normal(host)
    destination = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = f"agent-vm egress allow --branch {rules.machine} {destination}"
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


def plain(words):
    """On one line, whatever host the guest has named."""
    return "".join(c if " " <= c <= "~" else "?" for c in words)[:LONGEST]
