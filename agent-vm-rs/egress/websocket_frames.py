"""Removes secrets from WebSocket control frames, for which mitmproxy calls no addon hook."""

import dataclasses

import secrets_broker
from mitmproxy.proxy.layers import websocket
from wsproto import events

# RFC 6455, 5.5.
LARGEST_CONTROL = 125

# Client connection id → secrets that must not be returned on it.
guarded = {}


def patch():
    send = websocket.WebsocketConnection.send2

    def send2(self, event):
        secrets = guarded.get(self.conn.id)
        return send(self, without(event, secrets) if secrets else event)

    websocket.WebsocketConnection.send2 = send2


def without(event, secrets):
    if isinstance(event, events.CloseConnection) and event.reason:
        return dataclasses.replace(event, reason=secrets_broker.text(event.reason, secrets))
    if isinstance(event, (events.Ping, events.Pong)):
        return dataclasses.replace(event, payload=secrets_broker.text(bytes(event.payload), secrets)[:LARGEST_CONTROL])
    return event
