// The resources, prompts and completions that the official suite prescribes.
import { ResourceTemplate } from '@modelcontextprotocol/server';
import { PICTURE, input } from './samples.mjs';

export function addCatalogue(server, { note }) {
    const resource = (name, mimeType, content) => {
        const uri = `test://${name}`;
        const read = async () => ({ contents: [{ uri, mimeType, ...content }] });
        server.registerResource(name, uri, { description: `Resource ${name}`, mimeType }, read);
    };
    resource('static-text', 'text/plain', { text: 'This is the content of the static text resource.' });
    resource('static-binary', 'image/png', { blob: PICTURE });
    resource('watched-resource', 'text/plain', { text: 'Watched.' });
    server.registerResource(
        'template',
        new ResourceTemplate('test://template/{id}/data', { list: undefined }),
        { description: 'Data of an id', mimeType: 'application/json' },
        async (uri, { id }) => ({
            contents: [
                { uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true }) }
            ]
        })
    );
    for (const verb of ['subscribe', 'unsubscribe']) {
        server.server.setRequestHandler(`resources/${verb}`, async ({ params: { uri } }) => {
            note(verb, { uri });
            return {};
        });
    }
    server.server.setRequestHandler('logging/setLevel', async ({ params: { level } }) => {
        note('level', { level });
        return {};
    });
    server.server.setRequestHandler('completion/complete', async ({ params: { argument } }) => {
        const values = ['paris', 'park', 'party'].filter((value) => value.startsWith(argument.value));
        return { completion: { values, total: values.length, hasMore: false } };
    });

    const prompt = (name, run, properties) =>
        server.registerPrompt(
            name,
            { description: `Prompt ${name}`, ...(properties && { argsSchema: input(properties) }) },
            async (given) => ({ messages: run(given).map((content) => ({ role: 'user', content })) })
        );
    prompt('test_simple_prompt', () => [{ type: 'text', text: 'This is a simple prompt for testing.' }]);
    prompt(
        'test_prompt_with_arguments',
        ({ arg1, arg2 }) => [{ type: 'text', text: `arg1='${arg1}', arg2='${arg2}'` }],
        {
            arg1: 'string',
            arg2: 'string'
        }
    );
    prompt(
        'test_prompt_with_embedded_resource',
        ({ resourceUri }) => [
            { type: 'resource', resource: { uri: resourceUri, mimeType: 'text/plain', text: 'Embedded.' } },
            { type: 'text', text: 'Read the resource.' }
        ],
        { resourceUri: 'string' }
    );
    prompt('test_prompt_with_image', () => [
        { type: 'image', data: PICTURE, mimeType: 'image/png' },
        { type: 'text', text: 'Look at the picture.' }
    ]);
}
