"""Fail closed: an unexpected exception ends the proxy. mitmproxy itself would log it and let the flow continue."""

import functools
import inspect
import os
import socket
import sys

import failure

# EX_SOFTWARE of sysexits.h.
STATUS = 70


def end(why):
    """Ends the proxy with all connections. There are no new ones until agent-vm restarts it."""
    failure.say(f"exiting: {why}")
    os._exit(STATUS)


def closed(addon):
    """Wraps every hook of an addon so that an exception ends the proxy."""
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
                # The name cannot be resolved, which is an ordinary result.
                raise
            except Exception:
                end(f"cannot apply the rules{failure.place(sys.exc_info())}")

    else:

        @functools.wraps(function)
        def called(*arguments, **named):
            try:
                return function(*arguments, **named)
            except Exception:
                end(f"cannot apply the rules{failure.place(sys.exc_info())}")

    return called
