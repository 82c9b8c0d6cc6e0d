"""Detects the protocol in a tunnel: TLS, HTTP, or, where the rules name the port, anything else. It never guesses."""

import re

import bounds
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import parse_client_hello

WAIT, TLS, HTTP, RAW, REFUSED = "wait", "tls", "http", "raw", "refused"
HANDSHAKE = 0x16
METHOD = re.compile(rb"[A-Za-z_-]{3,40}( |\Z)")
# Possible beginnings of a TLS record; mitmproxy waits for three bytes too.
METHOD_BEGUN = re.compile(rb"[A-Za-z_-]{1,2}\Z")
HTTP_BY_NAME = (b"h2", b"http/1.1", b"http/1.0")


class Refusal(layer.Layer):
    """Closes the connection."""

    def _handle_event(self, event):
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)


def is_inside(context):
    """Returns whether a layer is inside a CONNECT tunnel, and not the connection to the proxy itself."""
    return any(isinstance(one, layers.HttpLayer) for one in context.layers)


def kind(nextlayer):
    """Returns the protocol of the first bytes. Inside intercepted TLS only HTTP is accepted."""
    data = nextlayer.data_client()
    decrypted = any(isinstance(one, layers.ClientTLSLayer) for one in nextlayer.context.layers)
    other = REFUSED if decrypted else RAW
    if decrypted and nextlayer.context.client.alpn in HTTP_BY_NAME:
        return HTTP
    if nextlayer.data_server():
        # A server that speaks first speaks neither TLS nor HTTP.
        return other
    if not data:
        return WAIT
    if data[0] == HANDSHAKE:
        return REFUSED if decrypted else TLS
    if METHOD.match(data):
        return HTTP
    if METHOD_BEGUN.match(data):
        return WAIT
    # Web servers skip blank lines before a request.
    return REFUSED if data[:1].isspace() else other


def refuse(context):
    return Refusal(context)


def pass_on(context):
    """Passes data through unchanged, without keeping it in memory."""
    return layers.TCPLayer(context, ignore=True)


def http(context):
    return layers.HttpLayer(context, HTTPMode.transparent)


def intercept(context):
    tls = layers.ServerTLSLayer(context)
    tls.child_layer = layers.ClientTLSLayer(context)
    return tls


class Hello(layer.NextLayer):
    """Waits for a complete ClientHello. `decide` returns the next layer for it, or for None if it is invalid."""

    def __init__(self, context, decide):
        super().__init__(context)
        self._decide = decide

    def _ask(self):
        data = self.data_client()
        try:
            hello = parse_client_hello(data)
        except ValueError:
            self.layer = self._decide(None)
        else:
            self.layer = self._decide(hello) if hello or len(data) > bounds.HELLO else None
        if self.layer:
            for event in self.events:
                yield from self.layer.handle_event(event)
            self.events.clear()
            # Remove this layer from the stack, as mitmproxy's own does.
            self.handle_event = self._handle_event = self._handle = self.layer.handle_event


def handlers(master):
    """Returns mitmproxy's handlers of the open connections."""
    proxyserver = master.addons.get("proxyserver")
    # The attribute's name depends on the version.
    connections = getattr(proxyserver, "connections", None) or getattr(proxyserver, "_connections", {})
    return list(connections.values())
