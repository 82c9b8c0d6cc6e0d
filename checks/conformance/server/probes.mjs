// Tools for the tests with third-party clients. What happens in the server is also written to its journal.
import { setTimeout as pause } from 'node:timers/promises';
import { fromJsonSchema, inputRequired } from '@modelcontextprotocol/server';
import { input, object, text } from './samples.mjs';

const REQUESTS = {
    elicitation: (message) => inputRequired.elicit({ message, requestedSchema: object({ answer: 'string' }) }),
    sampling: (message) =>
        inputRequired.createMessage({
            messages: [{ role: 'user', content: { type: 'text', text: message } }],
            maxTokens: 10
        }),
    roots: () => inputRequired.listRoots()
};

// Tools that `add_tool` added. By HTTP, a request of the new era has a server of its own.
const added = [];

export function addProbes(server, { note, changed }) {
    const tool = (name, description, properties, run) =>
        server.registerTool(
            name,
            {
                description,
                inputSchema: properties ? input(properties) : fromJsonSchema({ type: 'object', properties: {} })
            },
            async (given, { mcpReq }) => run(given, mcpReq)
        );

    tool('echo', 'Returns its argument', { value: {} }, async ({ value }) => text(JSON.stringify(value)));
    tool('process', "Returns the process's id", null, async () => text(String(process.pid)));
    tool('large', 'Returns many characters', { length: 'integer' }, async ({ length }) => text('x'.repeat(length)));
    tool('exit', 'Ends the process without an answer', null, async () => process.exit(3));
    tool('count', 'Reports progress many times', { to: 'integer' }, async ({ to }, { _meta, notify }) => {
        const progressToken = _meta?.progressToken;
        for (let progress = 1; progressToken !== undefined && progress <= to; progress++) {
            await notify({
                method: 'notifications/progress',
                params: { progressToken, progress, total: to, message: `step ${progress}` }
            });
        }
        return text(`counted to ${to}`);
    });
    tool(
        'wait',
        'Reports progress once and answers only if it is cancelled',
        { name: 'string' },
        async ({ name }, request) => {
            note('wait', { name });
            const progressToken = request._meta?.progressToken;
            if (progressToken !== undefined) {
                await request.notify({
                    method: 'notifications/progress',
                    params: { progressToken, progress: 1, message: 'waiting' }
                });
            }
            await pause(120_000, undefined, { signal: request.signal }).catch(() => note('cancelled', { name }));
            return text('waited');
        }
    );
    tool('log', 'Logs a text', { level: 'string', data: 'string' }, async ({ level, data }, request) => {
        await request.log(level, data, 'probe');
        return text('logged');
    });
    // An old client is sent a request, a new one a result that asks.
    tool(
        'ask',
        'Asks the client',
        { kind: 'string', message: 'string' },
        async ({ kind, message }, { inputResponses }) => {
            const answer = inputResponses?.it;
            return answer
                ? text(JSON.stringify(answer))
                : inputRequired({ inputRequests: { it: REQUESTS[kind](message) } });
        }
    );
    const add = (name) => server.registerTool(name, { description: 'Added' }, async () => text(name));
    added.forEach(add);
    tool('add_tool', 'Adds a tool', { name: 'string' }, async ({ name }) => {
        added.push(name);
        // Announces the change itself, but only to the client of this server.
        add(name);
        await changed.tools();
        return text('added');
    });
    tool('touch', 'Announces an update of a resource', { uri: 'string' }, async ({ uri }) => {
        await changed.resource(uri);
        return text('touched');
    });
}
