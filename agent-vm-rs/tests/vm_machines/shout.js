// An MCP server with one tool, over stdio, which a machine's service starts with Node.
const shout = {
  name: 'shout',
  inputSchema: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
};
const answers = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: 'shout', version: '1' },
  }),
  ping: () => ({}),
  'tools/list': () => ({ tools: [shout] }),
  'tools/call': (call) => ({ content: [{ type: 'text', text: call.arguments.text.toUpperCase() }] }),
};
require('readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { id, method, params } = JSON.parse(line);
    // Notifications have no id and get no answer.
    if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: answers[method](params) }));
  });
