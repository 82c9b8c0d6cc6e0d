// The tools whose names and behaviour the official suite prescribes, except those that ask for input within a result.
import { setTimeout as pause } from 'node:timers/promises';
import { fromJsonSchema, inputRequired } from '@modelcontextprotocol/server';
import { PICTURE, SOUND, input, object, text } from './samples.mjs';

const NOTHING = fromJsonSchema({ type: 'object', properties: {} });

// With keywords that a library with its own idea of a schema would drop.
const RICH_SCHEMA = {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: { address: { $anchor: 'addressDef', ...object({ street: 'string', city: 'string' }, undefined) } },
    properties: {
        name: { type: 'string' },
        address: { $ref: '#/$defs/address' },
        contactMethod: { type: 'string', enum: ['phone', 'email'] },
        phone: { type: 'string' },
        email: { type: 'string' }
    },
    allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
    if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
    then: { required: ['phone'] },
    else: { required: ['email'] },
    additionalProperties: false
};

const choice = (values) => values.map(([value, title]) => ({ const: value, title }));
const TITLED = [
    ['a', 'First'],
    ['b', 'Second'],
    ['c', 'Third']
];

// Each kind of enumeration an elicitation may have.
const ENUMERATIONS = object(
    {
        untitledSingle: { type: 'string', enum: ['a', 'b', 'c'] },
        titledSingle: { type: 'string', oneOf: choice(TITLED) },
        legacyEnum: { type: 'string', enum: ['a', 'b', 'c'], enumNames: ['First', 'Second', 'Third'] },
        untitledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { type: 'string', enum: ['a', 'b', 'c'] } },
        titledMulti: { type: 'array', minItems: 1, maxItems: 3, items: { anyOf: choice(TITLED) } }
    },
    []
);
const DEFAULTS = object(
    {
        name: { type: 'string', default: 'John Doe' },
        age: { type: 'integer', default: 30 },
        score: { type: 'number', default: 95.5 },
        status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
        verified: { type: 'boolean', default: true }
    },
    []
);

export function addSuiteTools(server, { changed }) {
    const tool = (name, description, run, inputSchema = NOTHING) =>
        server.registerTool(name, { description, inputSchema }, run);
    const fixed = (name, description, ...content) => tool(name, description, async () => ({ content }));

    // Contents.
    const resource = (uri, mimeType, value) => ({ type: 'resource', resource: { uri, mimeType, text: value } });
    const picture = { type: 'image', data: PICTURE, mimeType: 'image/png' };
    fixed('test_simple_text', 'Returns text', { type: 'text', text: 'This is a simple text response for testing.' });
    fixed('test_image_content', 'Returns a picture', picture);
    fixed('test_audio_content', 'Returns a sound', { type: 'audio', data: SOUND, mimeType: 'audio/wav' });
    fixed(
        'test_embedded_resource',
        'Returns a resource',
        resource('test://embedded-resource', 'text/plain', 'Embedded.')
    );
    fixed(
        'test_multiple_content_types',
        'Returns contents of three types',
        { type: 'text', text: 'Several contents:' },
        picture,
        resource('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}')
    );
    tool('test_error_handling', 'Fails', async () => {
        throw new Error('This tool intentionally returns an error for testing');
    });
    tool(
        'json_schema_2020_12_tool',
        'Has a rich schema',
        async (given) => text(JSON.stringify(given)),
        fromJsonSchema(RICH_SCHEMA)
    );
    tool(
        'test_x_mcp_header',
        'Has an argument that is also sent as a header',
        async ({ region }) => text(`region=${region ?? 'none'}`),
        input({ region: { type: 'string', 'x-mcp-header': 'Region' }, level: 'integer' }, [])
    );

    // Notifications during a call.
    tool('test_tool_with_logging', 'Logs while it runs', async (_, { mcpReq }) => {
        for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
            await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data } });
            await pause(10);
        }
        return text('Logged.');
    });
    tool('test_logging_tool', 'Logs if the request asks for it', async (_, { mcpReq }) => {
        await mcpReq.log('info', 'The request asked for this.');
        return text('Logged if asked.');
    });
    tool('test_tool_with_progress', 'Reports its progress', async (_, { mcpReq }) => {
        const progressToken = mcpReq._meta?.progressToken;
        for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
            const params = { progressToken, progress, total: 100, message: `${progress} of 100` };
            await mcpReq.notify({ method: 'notifications/progress', params });
            await pause(10);
        }
        return text(String(progressToken));
    });
    tool('test_reconnection', 'Takes a moment', async () => {
        await pause(200);
        return text('The answer came after a moment.');
    });
    tool('test_streaming_elicitation', 'Answers without a request of its own', async () =>
        text('No request was sent.')
    );

    // Requests to the client during a call: as messages in the old era, within a result in the new one.
    const asks = (name, description, request, inputSchema) =>
        tool(
            name,
            description,
            async (given, { mcpReq }) => {
                if (mcpReq.envelope === undefined) return text(JSON.stringify(await mcpReq.send(request(given))));
                const answer = mcpReq.inputResponses?.it;
                return answer ? text(JSON.stringify(answer)) : inputRequired({ inputRequests: { it: request(given) } });
            },
            inputSchema
        );
    const elicit = (message, requestedSchema) => inputRequired.elicit({ message, requestedSchema });
    const sample = (prompt, maxTokens) =>
        inputRequired.createMessage({
            messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
            maxTokens
        });
    asks(
        'test_sampling',
        'Asks the client for a completion',
        ({ prompt }) => sample(prompt, 100),
        input({ prompt: 'string' })
    );
    asks(
        'test_elicitation',
        'Asks the user',
        ({ message }) => elicit(message, object({ username: 'string', email: 'string' })),
        input({ message: 'string' })
    );
    asks('test_elicitation_sep1034_defaults', 'Asks the user, with defaults', () =>
        elicit('Check the defaults', DEFAULTS)
    );
    asks('test_elicitation_sep1330_enums', 'Asks the user to choose', () => elicit('Choose', ENUMERATIONS));
    tool('test_missing_capability', 'Needs a client that samples', async (_, { mcpReq }) =>
        mcpReq.inputResponses?.answer === undefined
            ? inputRequired({ inputRequests: { answer: sample('Say pong', 16) } })
            : text('The client answered.')
    );

    // Changes of lists.
    for (const kind of ['tools', 'prompts']) {
        tool(`test_trigger_${kind.slice(0, -1)}_change`, `Announces a change of the ${kind}`, async () => {
            await changed[kind]();
            return text(`The ${kind} changed.`);
        });
    }
}
