"""The Python SDK 1.x."""

import json
import sys
from contextlib import AsyncExitStack

import checks
from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client
from pydantic import AnyUrl


class Session(checks.Session):
    async def __aenter__(self):
        self.stack = AsyncExitStack()
        read, write, _ = await self.stack.enter_async_context(streamablehttp_client(self.url))
        self.session = await self.stack.enter_async_context(
            ClientSession(
                read,
                write,
                message_handler=self.received,
                sampling_callback=self.sample,
                elicitation_callback=self.elicit,
                list_roots_callback=self.list_roots,
                logging_callback=self.logged,
            )
        )
        self.hello = await self.session.initialize()
        return self

    async def __aexit__(self, *error):
        return await self.stack.__aexit__(*error)

    async def received(self, message):
        if isinstance(message, types.ServerNotification):
            content = message.model_dump(by_alias=True, mode="json")
            self.notified(content["method"], content.get("params") or {})

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
        return self.hello.serverInfo.name, self.hello.instructions

    async def tools(self):
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def call(self, name, arguments, progress=None, level=None):
        result = await self.session.call_tool(name, arguments, progress_callback=progress)
        if result.isError:
            raise RuntimeError(json.dumps([part.model_dump(mode="json") for part in result.content]))
        return result.content[0].text

    async def complete(self, value):
        prompt = types.PromptReference(type="ref/prompt", name="test_simple_prompt")
        return (await self.session.complete(prompt, {"name": "x", "value": value})).completion.values

    async def set_level(self, level):
        await self.session.set_logging_level(level)

    async def watch(self, uri=None):
        if uri:
            await self.session.subscribe_resource(AnyUrl(uri))

    async def cancel(self, call):
        # This version of the SDK leaves it to its user to tell the server.
        number = self.session._request_id - 1
        params = types.CancelledNotificationParams(requestId=number)
        await self.session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        call.cancel()

    async def ping(self):
        await self.session.send_ping()


if __name__ == "__main__":
    sys.exit(checks.main(Session))
