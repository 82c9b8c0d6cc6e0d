// The TypeScript SDK 2.x, which speaks both eras.
import { Client, LOG_LEVEL_META_KEY, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { main } from './checks.mjs';

async function connect(url, era, { notified, answer }) {
    const client = new Client(
        { name: 'typescript-new', version: '1' },
        {
            capabilities: { sampling: {}, elicitation: {}, roots: {} },
            versionNegotiation: { mode: era === 'old' ? 'legacy' : 'auto' }
        }
    );
    for (const method of ['sampling/createMessage', 'elicitation/create', 'roots/list']) {
        client.setRequestHandler(method, ({ params }) => answer(method, params));
    }
    client.fallbackNotificationHandler = async ({ method, params }) => notified(method, params);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    const negotiated = client.getNegotiatedProtocolVersion?.();
    if (negotiated && negotiated >= '2026' !== (era === 'new')) throw new Error(`negotiated ${negotiated}`);
    const subscriptions = [];
    return {
        serverInfo: client.getServerVersion(),
        instructions: client.getInstructions(),
        listTools: async () => (await client.listTools(undefined, { cacheMode: 'refresh' })).tools,
        call: (name, given, { onprogress, signal, level } = {}) =>
            client.callTool(
                { name, arguments: given, ...(level && { _meta: { [LOG_LEVEL_META_KEY]: level } }) },
                { onprogress, signal, timeout: 60_000 }
            ),
        complete: async (value) =>
            (
                await client.complete({
                    ref: { type: 'ref/prompt', name: 'test_simple_prompt' },
                    argument: { name: 'x', value }
                })
            ).completion.values,
        setLevel: (level) => client.setLoggingLevel(level),
        async watch(uri) {
            if (era === 'old') return uri && client.subscribeResource({ uri });
            subscriptions.push(
                await client.listen({ toolsListChanged: true, ...(uri && { resourceSubscriptions: [uri] }) })
            );
        },
        ping: () => client.ping(),
        async close() {
            await Promise.all(subscriptions.map((one) => one.close()));
            if (era === 'old') await transport.terminateSession();
            await client.close();
        }
    };
}

await main(connect, { eras: ['old', 'new'] });
