"""What every client library must see through the gateway. Each check prints a line of JSON: {"check", "ok", "why"}.

    python python_old.py URL ERA JOURNAL WITHOUT        ERA: old or new; WITHOUT: a check to leave out

The checks are those of checks.mjs. A library's program gives a subclass of `Session`.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

LIMIT = 20.0
ROOT = "file:///workspace"


class Skip(Exception):
    """The era has no such thing."""


class Session:
    """One client of a library: an async context manager. Its answers carry its tag."""

    def __init__(self, url: str, era: str, tag: str):
        self.url, self.era, self.tag = url, era, tag
        self.seen: list[tuple[str, dict]] = []
        self._changed = asyncio.Event()

    # Calls of the library.

    def notified(self, method: str, params: dict) -> None:
        self.seen.append((method, params))
        self._changed.set()
        self._changed = asyncio.Event()

    def elicited(self, message: str) -> dict:
        return {"answer": f"{self.tag}: {message}"}

    def sampled(self, text: str) -> str:
        return f"{self.tag}: {text}"

    # Calls of the checks; a library defines them.

    async def server(self) -> tuple[str, str | None]:
        """Returns the server's name and instructions."""
        raise NotImplementedError

    async def tools(self) -> list[str]:
        raise NotImplementedError

    async def call(self, name: str, arguments: dict, progress: Callable | None = None, level: str | None = None):
        """Returns a tool's text. Raises if the tool or the call fails."""
        raise NotImplementedError

    async def complete(self, value: str) -> list[str]:
        raise NotImplementedError

    async def set_level(self, level: str) -> None:
        raise NotImplementedError

    async def watch(self, uri: str | None = None) -> None:
        """Asks for notifications of changed tools, and of a resource's updates."""
        raise NotImplementedError

    async def ping(self) -> None:
        raise NotImplementedError

    async def cancel(self, call: asyncio.Task) -> None:
        """Cancels the newest call."""
        call.cancel()

    # Helpers of the checks.

    async def until(self, method: str, test: Callable[[dict], bool] = lambda _: True) -> dict:
        while True:
            changed = self._changed
            for seen, params in self.seen:
                if seen == method and test(params):
                    return params
            await changed.wait()

    async def counted(self, to: int) -> None:
        steps: list[int] = []

        async def progress(step, *_):
            steps.append(int(step))

        equal(await self.call("count", {"to": to}, progress), f"counted to {to}", "the count")
        equal(steps, list(range(1, to + 1)), f"progress of {self.tag} before the answer")


def equal(found, wanted, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r:.200} instead of {wanted!r:.200}")


async def rejected(call, what: str) -> str:
    try:
        result = await call
    except Exception as error:  # noqa: BLE001 - each library has its own
        return str(error)
    raise AssertionError(f"{what} succeeded: {result!r:.200}")


async def server(open_session, era, journal):
    me = await open_session()
    equal(await me.server(), ("conformance-server", "Instructions of the conformance server."), "the server")
    assert "echo" in await me.tools()


async def echo(open_session, era, journal):
    value = {"text": 'ä\u2028\U0001f600"\\', "number": 1.5, "big": 9007199254740991, "list": [None, True, {"": []}]}
    equal(json.loads(await (await open_session()).call("echo", {"value": value})), value, "the echo")


async def progress(open_session, era, journal):
    await (await open_session()).counted(200)


async def logging(open_session, era, journal):
    me = await open_session()
    if era == "old":
        await me.set_level("info")
    await me.call("log", {"level": "warning", "data": "hello"}, level="info")
    message = await me.until("notifications/message", lambda params: params.get("data") == "hello")
    equal((message["level"], message.get("logger")), ("warning", "probe"), "the message")


async def list_changed(open_session, era, journal):
    me = await open_session()
    await me.watch()
    await me.call("add_tool", {"name": f"added-{os.getpid()}-{random.random()}"})
    await me.until("notifications/tools/list_changed")
    assert any(name.startswith("added-") for name in await me.tools()), "the new tool is not in the list"


async def resource_updated(open_session, era, journal):
    me = await open_session()
    await me.watch("test://watched-resource")
    await me.call("touch", {"uri": "test://watched-resource"})
    await me.until("notifications/resources/updated", lambda params: params["uri"] == "test://watched-resource")


async def completion(open_session, era, journal):
    equal(await (await open_session()).complete("pa"), ["paris", "park", "party"], "completions")


async def elicitation(open_session, era, journal):
    answer = json.loads(await (await open_session()).call("ask", {"kind": "elicitation", "message": "Who?"}))
    equal(answer["content"], {"answer": "me: Who?"}, "the answer")


async def sampling(open_session, era, journal):
    answer = json.loads(await (await open_session()).call("ask", {"kind": "sampling", "message": "Say"}))
    equal(answer["content"]["text"], "me: Say", "the answer")


async def roots(open_session, era, journal):
    answer = json.loads(await (await open_session()).call("ask", {"kind": "roots", "message": ""}))
    equal([(root["uri"], root["name"]) for root in answer["roots"]], [(ROOT, "me")], "the answer")


async def cancellation(open_session, era, journal):
    me = await open_session()
    name = f"wait-{os.getpid()}-{random.random()}"
    started = asyncio.Event()

    async def progress(*_):
        started.set()

    call = asyncio.create_task(me.call("wait", {"name": name}, progress))
    await asyncio.wait([call, asyncio.create_task(started.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not call.done(), f"the call ended: {call}"
    await me.cancel(call)
    while f'"event":"cancelled","name":"{name}"' not in Path(journal).read_text():
        await asyncio.sleep(0.02)
    equal(json.loads(await me.call("echo", {"value": 1})), 1, "a call after the cancellation")


async def ping(open_session, era, journal):
    if era != "old":
        raise Skip
    await (await open_session()).ping()


async def large(open_session, era, journal):
    me = await open_session()
    equal(len(await me.call("large", {"length": 20_000_000})), 20_000_000, "characters of a large result")
    equal(len(await me.call("echo", {"value": "y" * 5_000_000})), 5_000_002, "characters of a large argument")


async def errors(open_session, era, journal):
    me = await open_session()
    why = await rejected(me.call("no-such-tool", {}), "an unknown tool")
    assert "no-such-tool" in why, f"the error does not name the tool: {why}"
    await rejected(me.call("echo", {}), "a call without its argument")


# Tokens and ids of both clients are equal, as each library counts from the same number.
async def two_at_once(open_session, era, journal):
    async def rounds(client, to):
        for round_number in range(10):
            kind = ("elicitation", "sampling")[round_number % 2]
            ask = {"kind": kind, "message": f"m{round_number}"}
            echoed, answer, _ = await asyncio.gather(
                client.call("echo", {"value": client.tag}), client.call("ask", ask), client.counted(to)
            )
            equal(json.loads(echoed), client.tag, "the echo")
            assert f"{client.tag}: m{round_number}" in answer, f"{client.tag} got {answer}"

    await asyncio.gather(rounds(await open_session("first"), 20), rounds(await open_session("second"), 21))


async def two_lists(open_session, era, journal):
    first, second = await open_session("first"), await open_session("second")
    wanted = {first: "test://static-text", second: "test://watched-resource"}
    for client, uri in wanted.items():
        await client.watch(uri)
    for client, uri in wanted.items():
        await client.call("touch", {"uri": uri})
        await client.until("notifications/resources/updated")
    for client, uri in wanted.items():
        seen = [params["uri"] for method, params in client.seen if method == "notifications/resources/updated"]
        equal(seen, [uri], f"updates for {client.tag}")


# The last one: it ends a process of the server.
async def server_ends(open_session, era, journal):
    me = await open_session()
    await rejected(me.call("exit", {}), "a call whose server ended")
    equal(json.loads(await (await open_session()).call("echo", {"value": 2})), 2, "a call of another client")


CHECKS = [
    server, echo, progress, logging, list_changed, resource_updated, completion, elicitation, sampling, roots,
    cancellation, ping, large, errors, two_at_once, two_lists, server_ends,
]  # fmt: skip


async def run(check, library: type[Session], url: str, era: str, journal: str) -> None:
    async with AsyncExitStack() as stack:

        async def open_session(tag: str = "me") -> Session:
            return await stack.enter_async_context(library(url, era, tag))

        async with asyncio.timeout(LIMIT):
            await check(open_session, era, journal)


def first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main(library: type[Session]) -> int:
    url, era, journal, without = sys.argv[1:]
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        if name == without:
            continue
        why = ""
        try:
            # A loop of its own, so that what one check left behind does not disturb the next.
            asyncio.run(run(check, library, url, era, journal))
        except Skip:
            continue
        except BaseException as error:  # noqa: BLE001 - reported
            if first(error).__class__ is Skip:
                continue
            why = f"{first(error)!r:.500}"
            failed += 1
        print(json.dumps({"check": name, "ok": not why, "why": why}), flush=True)
    # The last line shows that no check is missing.
    print(json.dumps({"end": True}), flush=True)
    return 1 if failed else 0
