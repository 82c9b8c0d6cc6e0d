// The tools and the prompt of the official suite that ask for input within their result (`input_required`).
import {
    CLIENT_CAPABILITIES_META_KEY,
    acceptedContent,
    fromJsonSchema,
    inputRequired
} from '@modelcontextprotocol/server';
import { object, text } from './samples.mjs';

const form = (message, properties) => inputRequired.elicit({ message, requestedSchema: object(properties) });
const sample = (prompt) =>
    inputRequired.createMessage({
        messages: [{ role: 'user', content: { type: 'text', text: prompt } }],
        maxTokens: 100
    });
const NAME = form('What is your name?', { name: 'string' });
const CONFIRM = form('Please confirm', { ok: 'boolean' });

export function addInputTools(server, { states }) {
    const tool = (name, description, run) =>
        server.registerTool(
            `test_input_required_result_${name}`,
            { description, inputSchema: fromJsonSchema({ type: 'object', properties: {} }) },
            async (_, { mcpReq }) => run(mcpReq)
        );
    const ask = async (inputRequests, state) =>
        inputRequired({
            inputRequests,
            ...(state && { requestState: await states.mint({ ...state, at: Math.random() }) })
        });

    tool('elicitation', 'Asks for a name', async ({ inputResponses }) => {
        const name = acceptedContent(inputResponses, 'user_name')?.name;
        return typeof name === 'string' ? text(`Hello, ${name}!`) : ask({ user_name: NAME });
    });
    tool('sampling', 'Asks for a completion', async ({ inputResponses }) => {
        const answer = inputResponses?.capital_question;
        return answer
            ? text(`Answer: ${JSON.stringify(answer.content)}`)
            : ask({ capital_question: sample('Capital of France?') });
    });
    tool('list_roots', "Asks for the client's roots", async ({ inputResponses }) => {
        const roots = inputResponses?.client_roots?.roots;
        return roots
            ? text(`Roots: ${roots.map((root) => root.uri).join(' ')}`)
            : ask({ client_roots: inputRequired.listRoots() });
    });
    tool('request_state', 'Asks and keeps a state', async ({ inputResponses, requestState }) => {
        const confirmed = acceptedContent(inputResponses, 'confirm') && requestState()?.of === 'state';
        return confirmed ? text('state-ok') : ask({ confirm: CONFIRM }, { of: 'state' });
    });
    tool('tampered_state', 'Refuses a changed state', async ({ inputResponses, requestState }) => {
        const confirmed = acceptedContent(inputResponses, 'confirm') && requestState()?.of === 'tampered';
        return confirmed ? text('integrity-ok') : ask({ confirm: CONFIRM }, { of: 'tampered' });
    });
    tool('multiple_inputs', 'Asks three things at once', async ({ inputResponses }) => {
        const all = ['user_name', 'greeting', 'client_roots'].every((key) => inputResponses?.[key]);
        const wanted = { user_name: NAME, greeting: sample('Greet'), client_roots: inputRequired.listRoots() };
        return all ? text('Received all three.') : ask(wanted, { of: 'multiple' });
    });
    tool('multi_round', 'Asks twice', async ({ inputResponses, requestState }) => {
        const { round = 0, name } = requestState() ?? {};
        if (round === 0) return ask({ step1: form('Your name?', { name: 'string' }) }, { round: 1 });
        if (round === 1) {
            const given = acceptedContent(inputResponses, 'step1')?.name;
            return ask({ step2: form('Your colour?', { color: 'string' }) }, { round: 2, name: given });
        }
        return text(`${name} likes ${acceptedContent(inputResponses, 'step2')?.color}.`);
    });
    tool('capabilities', 'Asks what the client is able to answer', async ({ inputResponses, envelope }) => {
        if (inputResponses) return text('Received.');
        const able = envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? server.server.getClientCapabilities() ?? {};
        const wanted = {
            ...(able.elicitation && { user_name: NAME }),
            ...(able.sampling && { greeting: sample('Greet') }),
            ...(able.roots && { client_roots: inputRequired.listRoots() })
        };
        return Object.keys(wanted).length ? ask(wanted) : text('The client answers nothing.');
    });
    server.registerPrompt(
        'test_input_required_result_prompt',
        { description: 'Asks for a context' },
        async ({ mcpReq: { inputResponses } }) => {
            const context = acceptedContent(inputResponses, 'user_context')?.context;
            if (typeof context !== 'string')
                return ask({ user_context: form('Which context?', { context: 'string' }) });
            return { messages: [{ role: 'user', content: { type: 'text', text: `Context: ${context}` } }] };
        }
    );
}
