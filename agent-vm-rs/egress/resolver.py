"""Guards the event loop's resolver: names must resolve to public addresses, unless the rules name the host itself."""

import socket

import closing
from rules import is_public

# Reason for refusing a name that resolves to such an address.
OWN_ADDRESS = "is an address of the host or its network"


def guard(loop, rules, audit):
    resolve = loop.getaddrinfo

    @closing.closed_call
    async def guarded(host, port, **options):
        try:
            found = await resolve(host, port, **options)
        except (ValueError, OverflowError):
            # The name cannot be looked up: an empty or too long label, a null byte, or a port above 65535.
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
    """Returns whether mitmproxy's message is about a name that the guard refused and logged."""
    return message.startswith(f"[Errno {socket.EAI_FAIL}] ") and message.endswith(f" {OWN_ADDRESS}")
