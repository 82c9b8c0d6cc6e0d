"""agent-mcp proxy: mcp-proxy, whose clients hear what a server says of its own accord, and learn what it is once it is up.

mcp-proxy takes each server's answer to `initialize` once, before it listens, and hands no notification on. Here each new
client is told what the server is by then, and all are told when that, or a list, changes. Arguments are mcp-proxy's.
"""

# Importing makes no garbage, and looking for it takes a sixth of the time until this listens.
import gc

gc.disable()

import asyncio  # noqa: E402
import sys  # noqa: E402
import weakref  # noqa: E402

import anyio  # noqa: E402
import mcp_proxy.mcp_server  # noqa: E402
from mcp import types  # noqa: E402
from mcp.server import transport_security  # noqa: E402
from mcp.server.lowlevel import NotificationOptions  # noqa: E402
from mcp_proxy.__main__ import main as mcp_proxy_main  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from journal import WARNING, log  # noqa: E402
from policy import LONGEST_MESSAGE  # noqa: E402
from relay import PROXY, SERVERS_OWN  # noqa: E402

# A client that does not read its stream holds up the others' notifications no longer than this.
PATIENCE = 5.0
# Notifications that wait for clients; more are dropped.
MOST_WAITING = 1000

create_plain = getattr(mcp_proxy.mcp_server, "create_proxy_server", None)


class Told:
    """One server, its clients' sessions, and what they are told."""

    def __init__(self, remote, app):
        self._remote = remote
        self._app = app
        self._sessions = weakref.WeakSet()
        self._plain_options = app.create_initialization_options
        self._plain_handle = app._handle_message
        self._hello: types.InitializeResult | None = None
        self._queue: asyncio.Queue = asyncio.Queue(MOST_WAITING)
        remote._message_handler = self.received
        app.create_initialization_options = self.options
        app._handle_message = self.handle
        # The reference keeps the task.
        self._task = asyncio.create_task(self._deliver())

    async def handle(self, message, session, *rest) -> None:
        """In place of the server's: learns of the sessions."""
        self._sessions.add(session)
        await self._plain_handle(message, session, *rest)

    def options(self, *_, **__):
        """What a client that connects now is told the server is."""
        options = self._plain_options(NotificationOptions(True, True, True))
        hello = self._hello
        if hello is None:
            # mcp-proxy promises completions of every server, which nothing stands in for.
            capabilities = options.capabilities.model_copy(update={"completions": None})
            return options.model_copy(update={"capabilities": capabilities})
        return options.model_copy(
            update={
                "server_name": hello.serverInfo.name,
                "server_version": hello.serverInfo.version,
                "instructions": hello.instructions,
                "capabilities": hello.capabilities,
            }
        )

    def learn(self, answer: types.InitializeResult) -> None:
        """Take over what the server itself has answered, if it is up."""
        own = (answer.meta or {}).get(SERVERS_OWN)
        try:
            self._hello = None if own is None else types.InitializeResult.model_validate(own)
        except ValidationError:
            log(WARNING, f"server {answer.serverInfo.name}: its answer to initialize is not one of MCP's")

    async def received(self, message) -> None:
        """From the server. Called by what reads its messages, so nothing is waited for here."""
        if isinstance(message, types.ServerNotification):
            # As it was sent, but for what every message has, which is added again.
            content = message.model_dump(by_alias=True, mode="json", exclude_none=True)
            content.pop("jsonrpc", None)
            try:
                self._queue.put_nowait(types.ServerNotification.model_validate(content))
            except asyncio.QueueFull:
                log(WARNING, "a notification is dropped: clients do not read theirs")

    async def _deliver(self) -> None:
        while True:
            notification = await self._queue.get()
            if isinstance(notification.root, types.ToolListChangedNotification):
                try:
                    self.learn(await self._remote.initialize())
                except Exception as error:  # noqa: BLE001 - the next change is another chance
                    log(WARNING, f"a server's answer to initialize is not usable: {error}")
            sessions = [session for session in self._sessions if concerns(notification.root, session)]
            await asyncio.gather(*(tell(session, notification) for session in sessions))


def concerns(notification, session) -> bool:
    """Whether a session has been promised notifications of this kind."""
    capabilities = session._init_options.capabilities
    match notification:
        case types.ToolListChangedNotification():
            return capabilities.tools is not None
        case types.PromptListChangedNotification():
            return capabilities.prompts is not None
        case types.ResourceListChangedNotification() | types.ResourceUpdatedNotification():
            return capabilities.resources is not None
        case types.LoggingMessageNotification():
            return capabilities.logging is not None
    # Progress has its own way, to the client that asked for it.
    return False


async def tell(session, notification) -> None:
    try:
        await asyncio.wait_for(session.send_notification(notification), PATIENCE)
    except (TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        # The session has ended, or its client does not read.
        pass
    except Exception as error:  # noqa: BLE001 - the other clients are told all the same
        log(WARNING, f"a client is not told of {notification.root.method}: {error}")


async def create(remote):
    """In place of mcp-proxy's: a server that its clients are told of."""
    answers = []
    initialize = remote.initialize

    async def remembered():
        answers.append(await initialize())
        return answers[-1]

    remote._client_info = types.Implementation(name=PROXY, version="1")
    remote.initialize = remembered
    app = await create_plain(remote)
    remote.initialize = initialize
    try:
        told = Told(remote, app)
    except AttributeError as error:
        log(WARNING, f"clients are not told of changes: this mcp-proxy is not made as expected ({error})")
        return app
    told.learn(answers[-1])
    # As long as the server.
    app.agent_mcp_told = told
    return app


def admit_long_messages() -> None:
    """As long ones as the gate: the SDK's own limit is 4 MiB, and mcp-proxy has no option for it."""
    middleware = getattr(transport_security, "RequestBodyLimitMiddleware", None)
    if middleware is None:
        # An SDK that has no limit.
        return
    plain = middleware.__init__

    def init(self, app, max_body_size):
        plain(self, app, max(max_body_size, LONGEST_MESSAGE))

    middleware.__init__ = init


def main(arguments: list[str]) -> int:
    admit_long_messages()
    if create_plain is None:
        log(WARNING, "clients are not told of changes: this mcp-proxy is not made as expected")
    else:
        mcp_proxy.mcp_server.create_proxy_server = create
    gc.freeze()
    gc.enable()
    sys.argv = ["mcp-proxy", *arguments]
    return mcp_proxy_main() or 0
