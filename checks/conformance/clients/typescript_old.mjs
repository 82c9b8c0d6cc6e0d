// The TypeScript SDK 1.x.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
    CreateMessageRequestSchema,
    ElicitRequestSchema,
    ListRootsRequestSchema
} from '@modelcontextprotocol/sdk/types.js';
import { main } from './checks.mjs';

async function connect(url, era, { notified, answer }) {
    const capabilities = { sampling: {}, elicitation: {}, roots: {} };
    const client = new Client({ name: 'typescript-old', version: '1' }, { capabilities });
    for (const schema of [CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema]) {
        client.setRequestHandler(schema, ({ method, params }) => answer(method, params));
    }
    client.fallbackNotificationHandler = async ({ method, params }) => notified(method, params);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    return {
        serverInfo: client.getServerVersion(),
        instructions: client.getInstructions(),
        listTools: async () => (await client.listTools()).tools,
        call: (name, given, { onprogress, signal } = {}) =>
            client.callTool({ name, arguments: given }, undefined, { onprogress, signal, timeout: 60_000 }),
        complete: async (value) =>
            (
                await client.complete({
                    ref: { type: 'ref/prompt', name: 'test_simple_prompt' },
                    argument: { name: 'x', value }
                })
            ).completion.values,
        setLevel: (level) => client.setLoggingLevel(level),
        watch: async (uri) => uri && client.subscribeResource({ uri }),
        ping: () => client.ping(),
        close: async () => {
            await transport.terminateSession();
            await client.close();
        }
    };
}

await main(connect, { eras: ['old'] });
