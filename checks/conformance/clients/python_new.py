"""The Python SDK 2.x, which speaks both eras."""

import json
import sys
import warnings
from contextlib import AsyncExitStack

import checks
from mcp import Client, types

# Logging, sampling and roots are used on purpose.
warnings.filterwarnings("ignore")


class Session(checks.Session):
    async def __aenter__(self):
        self.stack = AsyncExitStack()
        self.client = await self.stack.enter_async_context(
            Client(
                self.url,
                mode="legacy" if self.era == "old" else "auto",
                message_handler=self.received,
                sampling_callback=self.sample,
                elicitation_callback=self.elicit,
                list_roots_callback=self.list_roots,
                logging_callback=self.logged,
            )
        )
        if (self.client.protocol_version >= "2026") != (self.era == "new"):
            raise RuntimeError(f"negotiated {self.client.protocol_version}")
        return self

    async def __aexit__(self, *error):
        return await self.stack.__aexit__(*error)

    async def received(self, message):
        if method := getattr(message, "method", None):
            params = getattr(message, "params", None)
            self.notified(method, params.model_dump(by_alias=True, mode="json") if params else {})

    async def logged(self, params):
        # Also given to the handler of all messages.
        pass

    async def sample(self, _, params):
        text = types.TextContent(type="text", text=self.sampled(params.messages[0].content.text))
        return types.CreateMessageResult(role="assistant", model="none", content=text)

    async def elicit(self, _, params):
        return types.ElicitResult(action="accept", content=self.elicited(params.message))

    async def list_roots(self, _):
        return types.ListRootsResult(roots=[types.Root(uri=checks.ROOT, name=self.tag)])

    async def server(self):
        return self.client.server_info.name, self.client.instructions

    async def tools(self):
        return [tool.name for tool in (await self.client.list_tools(cache_mode="refresh")).tools]

    async def call(self, name, arguments, progress=None, level=None):
        meta = {"io.modelcontextprotocol/logLevel": level} if level and self.era == "new" else None
        result = await self.client.call_tool(name, arguments, progress_callback=progress, meta=meta)
        if result.is_error:
            raise RuntimeError(json.dumps([part.model_dump(mode="json") for part in result.content]))
        return result.content[0].text

    async def complete(self, value):
        prompt = types.PromptReference(type="ref/prompt", name="test_simple_prompt")
        return (await self.client.complete(prompt, {"name": "x", "value": value})).completion.values

    async def set_level(self, level):
        await self.client.set_logging_level(level)

    async def watch(self, uri=None):
        if self.era == "old":
            if uri:
                await self.client.subscribe_resource(uri)
            return
        wanted = {"resource_subscriptions": [uri]} if uri else {}
        await self.stack.enter_async_context(self.client.listen(tools_list_changed=True, **wanted))

    async def ping(self):
        await self.client.send_ping()


if __name__ == "__main__":
    sys.exit(checks.main(Session))
