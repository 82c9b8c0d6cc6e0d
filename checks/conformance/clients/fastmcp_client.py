"""The client of fastmcp, which speaks both eras."""

import sys
import warnings
from contextlib import AsyncExitStack

import checks
import mcp_types
from fastmcp import Client
from fastmcp.client.messages import MessageHandler

# Logging, sampling and roots are used on purpose.
warnings.filterwarnings("ignore")


class Messages(MessageHandler):
    def __init__(self, session):
        super().__init__()
        self.session = session

    async def on_notification(self, message):
        params = getattr(message, "params", None)
        self.session.notified(message.method, params.model_dump(by_alias=True, mode="json") if params else {})


class Session(checks.Session):
    async def __aenter__(self):
        self.stack = AsyncExitStack()
        self.client = await self.stack.enter_async_context(
            Client(
                self.url,
                mode="legacy" if self.era == "old" else "auto",
                message_handler=Messages(self),
                sampling_handler=self.sample,
                elicitation_handler=self.elicit,
                roots=self.list_roots,
            )
        )
        if (self.client.protocol_version >= "2026") != (self.era == "new"):
            raise RuntimeError(f"negotiated {self.client.protocol_version}")
        return self

    async def __aexit__(self, *error):
        return await self.stack.__aexit__(*error)

    async def sample(self, messages, params, context):
        return self.sampled(messages[0].content.text)

    async def elicit(self, message, response_type, params, context):
        return self.elicited(message)

    async def list_roots(self, context):
        return [mcp_types.Root(uri=checks.ROOT, name=self.tag)]

    async def server(self):
        return self.client.server_info.name, self.client.instructions

    async def tools(self):
        return [tool.name for tool in await self.client.list_tools()]

    async def call(self, name, arguments, progress=None, level=None):
        meta = {"io.modelcontextprotocol/logLevel": level} if level and self.era == "new" else None
        result = await self.client.call_tool(name, arguments, progress_handler=progress, meta=meta)
        return result.content[0].text

    async def complete(self, value):
        prompt = mcp_types.PromptReference(type="ref/prompt", name="test_simple_prompt")
        return (await self.client.complete(prompt, {"name": "x", "value": value})).values

    async def set_level(self, level):
        await self.client.set_logging_level(level)

    async def watch(self, uri=None):
        session = self.client.session
        if self.era == "old":
            if uri:
                await session.subscribe_resource(uri)
            return
        from mcp.client.subscriptions import listen

        wanted = {"resource_subscriptions": [uri]} if uri else {}
        await self.stack.enter_async_context(listen(session, tools_list_changed=True, **wanted))

    async def ping(self):
        await self.client.ping()


if __name__ == "__main__":
    sys.exit(checks.main(Session))
