"""agent-mcp proxy: mcp-proxy, extended to pass on a server's notifications, and its capabilities once it runs.

mcp-proxy reads each server's answer to `initialize` once, before it listens, and passes no notification on. This program
gives each new client the server's current answer, and notifies all clients of changes. Its arguments are mcp-proxy's.
"""

# Garbage collection during the imports would delay the start by a sixth, and finds nothing.
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

# Seconds after which a client that does not read its stream is skipped, so that it does not delay the others.
TIMEOUT = 5.0
# Maximal number of queued notifications; further ones are dropped.
MOST_WAITING = 1000

create_plain = getattr(mcp_proxy.mcp_server, "create_proxy_server", None)


class Clients:
    """One server, its clients' sessions, and the notifications for them."""

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
        # The reference keeps the task alive.
        self._task = asyncio.create_task(self._deliver())

    async def handle(self, message, session, *rest) -> None:
        """Replaces the server's method: registers a new session."""
        self._sessions.add(session)
        await self._plain_handle(message, session, *rest)

    def options(self, *_, **__):
        """Returns the server's name, version and capabilities for a new client."""
        options = self._plain_options(NotificationOptions(True, True, True))
        hello = self._hello
        if hello is None:
            # mcp-proxy always announces completions, for which there is no stand-in.
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
        """Stores the server's own answer to initialize, if the server runs."""
        own = (answer.meta or {}).get(SERVERS_OWN)
        try:
            self._hello = None if own is None else types.InitializeResult.model_validate(own)
        except ValidationError:
            log(WARNING, f"server {answer.serverInfo.name}: its answer to initialize is not valid MCP")

    async def received(self, message) -> None:
        """Handles a message of the server. The thread that reads its messages calls this, so it must not block."""
        if isinstance(message, types.ServerNotification):
            # Serialize it as it was sent, without the fields that are added to every message later.
            content = message.model_dump(by_alias=True, mode="json", exclude_none=True)
            content.pop("jsonrpc", None)
            try:
                self._queue.put_nowait(types.ServerNotification.model_validate(content))
            except asyncio.QueueFull:
                log(WARNING, "dropped a notification: the clients do not read")

    async def _deliver(self) -> None:
        while True:
            notification = await self._queue.get()
            if isinstance(notification.root, types.ToolListChangedNotification):
                try:
                    self.learn(await self._remote.initialize())
                except Exception as error:  # noqa: BLE001 - the next notification tries again
                    log(WARNING, f"failed to read a server's answer to initialize: {error}")
            sessions = [session for session in self._sessions if concerns(notification.root, session)]
            await asyncio.gather(*(notify(session, notification) for session in sessions))


def concerns(notification, session) -> bool:
    """Returns whether a session was promised notifications of this kind."""
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
    # Progress notifications reach the requesting client by another way.
    return False


async def notify(session, notification) -> None:
    try:
        await asyncio.wait_for(session.send_notification(notification), TIMEOUT)
    except (TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        # The session has ended, or its client does not read.
        pass
    except Exception as error:  # noqa: BLE001 - the other clients are still notified
        log(WARNING, f"failed to notify a client of {notification.root.method}: {error}")


async def create(remote):
    """Replaces mcp-proxy's function: also notifies the server's clients."""
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
        clients = Clients(remote, app)
    except AttributeError as error:
        log(WARNING, f"clients are not notified of changes: unsupported version of mcp-proxy ({error})")
        return app
    clients.learn(answers[-1])
    # Keeps it as long as the server.
    app.agent_mcp_clients = clients
    return app


def admit_long_messages() -> None:
    """Raises the SDK's limit of 4 MiB to that of the reverse proxy: mcp-proxy has no option for it."""
    middleware = getattr(transport_security, "RequestBodyLimitMiddleware", None)
    if middleware is None:
        # This version of the SDK has no limit.
        return
    plain = middleware.__init__

    def init(self, app, max_body_size):
        plain(self, app, max(max_body_size, LONGEST_MESSAGE))

    middleware.__init__ = init


def main(arguments: list[str]) -> int:
    admit_long_messages()
    if create_plain is None:
        log(WARNING, "clients are not notified of changes: unsupported version of mcp-proxy")
    else:
        mcp_proxy.mcp_server.create_proxy_server = create
    gc.freeze()
    gc.enable()
    sys.argv = ["mcp-proxy", *arguments]
    return mcp_proxy_main() or 0
