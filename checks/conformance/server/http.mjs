// The conformance server by HTTP, with the SDK's own transports and nothing of ours in between.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { classifyInboundRequest, createMcpHandler, isInitializeRequest } from '@modelcontextprotocol/server';

// Returns the body's JSON; undefined if there is none.
async function bodyOf(request) {
    const parts = [];
    for await (const part of request) parts.push(part);
    try {
        return JSON.parse(Buffer.concat(parts).toString());
    } catch {
        return undefined;
    }
}

export async function serveHttp(create) {
    const sessions = new Map();
    // In the new era each request has a server of its own, so changes are announced to all streams.
    const announce = {
        tools: () => modern.notify.toolsChanged(),
        prompts: () => modern.notify.promptsChanged(),
        resource: (uri) => modern.notify.resourceUpdated(uri)
    };
    const modern = createMcpHandler(() => create({ announce }));
    const answerModern = toNodeHandler(modern);
    const refuse = (response, status, message) => {
        response.writeHead(status, { 'Content-Type': 'application/json' });
        response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32000, message } }));
    };

    const http = createServer(async (request, response) => {
        const body = request.method === 'POST' ? await bodyOf(request) : undefined;
        const header = (name) => request.headers[name];
        if (!['localhost', '127.0.0.1'].includes((header('host') ?? '').split(':')[0]))
            return refuse(response, 403, 'host');
        const origin = header('origin');
        if (origin && !['localhost', '127.0.0.1'].includes(new URL(origin).hostname))
            return refuse(response, 403, 'origin');
        const inbound =
            request.method === 'POST' &&
            classifyInboundRequest({
                httpMethod: 'POST',
                protocolVersionHeader: header('mcp-protocol-version'),
                mcpMethodHeader: header('mcp-method'),
                body
            });
        if (inbound && inbound.kind !== 'legacy') return answerModern(request, response, body);
        const id = header('mcp-session-id');
        if (id) {
            const transport = sessions.get(id);
            return transport
                ? transport.handleRequest(request, response, body)
                : refuse(response, 404, 'unknown session');
        }
        if (!isInitializeRequest(body)) return refuse(response, 400, 'no session');
        const transport = new NodeStreamableHTTPServerTransport({
            sessionIdGenerator: randomUUID,
            onsessioninitialized: (created) => sessions.set(created, transport),
            onsessionclosed: (closed) => sessions.delete(closed)
        });
        await create().connect(transport);
        await transport.handleRequest(request, response, body);
    });
    http.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${http.address().port}/mcp`));
}
