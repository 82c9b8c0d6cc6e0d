"""The loop's resolver, guarded: names lead to public addresses only, unless the rules name the host itself."""

import socket

import closing
from rules import is_public

# Why a name is refused that resolves to such a one.
OWN_ADDRESS = "is an address of the host or its network"


def guard(loop, rules, audit):
    resolve = loop.getaddrinfo

    @closing.closed_call
    async def guarded(host, port, **options):
        try:
            found = await resolve(host, port, **options)
        except (ValueError, OverflowError):
            # No name that could be asked for: an empty or too long part, a null byte, a port beyond 65535.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or rules.now().is_named(name, None):
            return found
        public = [one for one in found if is_public(one[4][0])]
        if not public:
            audit.write(
                verdict="deny",
                reason="an address of the host or its network",
                method="RESOLVE",
                host=name,
                port=port if isinstance(port, int) else 0,
            )
            raise socket.gaierror(socket.EAI_FAIL, f"{name} {OWN_ADDRESS}")
        return public

    loop.getaddrinfo = guarded


def was_refused(message):
    """Whether mitmproxy's message is of such a name, which the log has already."""
    return message.startswith(f"[Errno {socket.EAI_FAIL}] ") and message.endswith(f" {OWN_ADDRESS}")
