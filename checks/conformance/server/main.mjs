// The MCP server behind the gateway in the conformance tests. It has what the official suite asks of a server, and
// tools for the tests with other clients. It uses the official TypeScript SDK.
//
//   node main.mjs [--era both|old|new] [--journal FILE]    on standard input and output, as behind the gateway
//   node main.mjs --http                                   by HTTP on a free port, whose URL it prints: the control
//
// Era `old` is the protocol with `initialize` (until 2025-11-25), `new` the one without (since 2026-07-28).
// A server that shows another era than its own fails: a translation in between is what is tested then.
import { appendFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { McpServer, createRequestStateCodec } from '@modelcontextprotocol/server';
import { StdioServerTransport, serveStdio } from '@modelcontextprotocol/server/stdio';
import { addCatalogue } from './catalogue.mjs';
import { addInputTools } from './input_tools.mjs';
import { addProbes } from './probes.mjs';
import { addSuiteTools } from './suite_tools.mjs';

const { values: given } = parseArgs({
    options: { era: { type: 'string', default: 'both' }, http: { type: 'boolean' }, journal: { type: 'string' } }
});

// The key is the process's: whoever asks another process with a state of this one is refused.
const states = createRequestStateCodec({ key: crypto.getRandomValues(new Uint8Array(32)) });

// Appends a line that the tests read to learn what reached the server.
function note(event, details = {}) {
    if (given.journal) {
        appendFileSync(given.journal, JSON.stringify({ pid: process.pid, event, ...details }) + '\n');
    }
}

// `announce` replaces the server's own notifications of changes.
function create({ announce } = {}) {
    const server = new McpServer(
        { name: 'conformance-server', version: '1.0.0', title: 'Conformance server' },
        {
            instructions: 'Instructions of the conformance server.',
            capabilities: {
                tools: { listChanged: true },
                prompts: { listChanged: true },
                resources: { listChanged: true, subscribe: true },
                logging: {},
                completions: {}
            },
            requestState: { verify: states.verify }
        }
    );
    const changed = announce ?? {
        tools: () => server.sendToolListChanged(),
        prompts: () => server.sendPromptListChanged(),
        resource: (uri) => server.server.sendResourceUpdated({ uri })
    };
    addSuiteTools(server, { changed });
    addInputTools(server, { states });
    addCatalogue(server, { note });
    addProbes(server, { note, changed });
    return server;
}

if (given.http) {
    const { serveHttp } = await import('./http.mjs');
    await serveHttp(create);
} else if (given.era === 'old') {
    note('start');
    await create().connect(new StdioServerTransport());
} else if (given.era === 'both' || given.era === 'new') {
    note('start');
    serveStdio(() => create(), { legacy: given.era === 'new' ? 'reject' : 'serve' });
} else {
    console.error(`error: unknown era: ${given.era}`);
    process.exit(2);
}
process.stdin.on('end', () => note('end of input'));
