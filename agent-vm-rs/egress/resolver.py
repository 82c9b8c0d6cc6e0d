"""Guards the event loop's resolver: names must resolve to public addresses, or to addresses that the allow list names."""

import socket

import closing
from rules import why_closed

# End of the error about a name that resolves to other addresses.
CLOSED = "resolves to a closed address"
# End of the error about a name that cannot be resolved.
UNRESOLVED = "cannot be resolved"


def guard(loop, rules, audit):
    """Returns the addresses and ports, not public, that names led to because the allow list names them; the guard adds to it."""
    resolve = loop.getaddrinfo
    listed = set()

    @closing.closed_call
    async def guarded(host, port, **options):
        name = host.decode(errors="replace") if isinstance(host, bytes) else host
        try:
            found = await resolve(host, port, **options)
        except (ValueError, OverflowError):
            # The name cannot be looked up: an empty or too long label, a null byte, or a port above 65535.
            raise socket.gaierror(socket.EAI_NONAME, f"{name} {UNRESOLVED}") from None
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"{name} {UNRESOLVED}") from None
        now = rules.now()
        if name is None or now.is_named(name, None):
            return found
        # Only a number can be on the list.
        port = port if isinstance(port, int) else 0
        closed = {one[4][0]: now.why_closed(one[4][0], port) for one in found}
        listed.update(one[4][:2] for one in found if not closed[one[4][0]] and why_closed(one[4][0]))
        usable = [one for one in found if not closed[one[4][0]]]
        if not usable:
            address, why = next(iter(closed.items()))
            audit.write(verdict="deny", reason=f"resolves to {address}, {why}", method="RESOLVE", host=name, port=port)
            raise socket.gaierror(socket.EAI_FAIL, f"{name} {CLOSED}")
        return usable

    loop.getaddrinfo = guarded
    return listed


def was_refused(message):
    """Returns whether mitmproxy's message is about a name that the guard refused and logged."""
    return message.startswith(f"[Errno {socket.EAI_FAIL}] ") and message.endswith(f" {CLOSED}")
