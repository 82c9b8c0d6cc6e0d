"""Finds the hosts that a request names, and requests that servers may parse differently."""

import re

from rules import host_of

# Characters that some servers take for the end of a line.
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def named_hosts(request):
    """Returns every host that a request names: servers differ in which one they use."""
    named = request.headers.get_all("host")
    if request.authority:
        named.append(request.authority)
    if len(request.headers.get_all("host")) > 1:
        return [", ".join(named)]
    return [host_of(one) for one in named]


def malformed(request):
    """Returns whether a server may find the end of a line or of the body elsewhere than mitmproxy does."""
    parts = [request.data.method, request.data.path, *(part for field in request.headers.fields for part in field)]
    lengths = request.headers.get_all("content-length")
    return any(CONTROL.search(part) for part in parts) or any(not re.fullmatch("[0-9]+", one) for one in lengths)
