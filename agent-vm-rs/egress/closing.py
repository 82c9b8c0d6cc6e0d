"""What is not foreseen ends the proxy: mitmproxy logs an exception of an addon and lets the flow go on."""

import functools
import inspect
import os
import socket
import sys

import failure

# sysexits.h: EX_SOFTWARE.
STATUS = 70


def end(why):
    """No connection outlives this process, and none is made until agent-vm starts it again."""
    failure.say(f"it ends: {why}")
    os._exit(STATUS)


def closed(addon):
    """Every hook of an addon, closed."""
    for name, hook in inspect.getmembers(addon, inspect.isfunction):
        if not name.startswith("_"):
            setattr(addon, name, closed_call(hook))
    return addon


def closed_call(function):
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def called(*arguments, **named):
            try:
                return await function(*arguments, **named)
            except socket.gaierror:
                # An answer as any other.
                raise
            except Exception:
                end(f"it cannot decide{failure.place(sys.exc_info())}")

    else:

        @functools.wraps(function)
        def called(*arguments, **named):
            try:
                return function(*arguments, **named)
            except Exception:
                end(f"it cannot decide{failure.place(sys.exc_info())}")

    return called
