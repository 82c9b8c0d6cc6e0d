// What every client library must see through the gateway. Each check prints a line of JSON: {"check", "ok", "why"}.
//
//   node typescript_old.mjs URL ERA JOURNAL WITHOUT       ERA: old or new; WITHOUT: a check to leave out
//
// A library's program gives `connect`, which opens a session with these members:
//   serverInfo, instructions, listTools(), call(name, arguments, {onprogress, signal, level}), complete(value),
//   setLevel(level), watch(uri), ping(), close()
// and calls `notified(method, params)`, and `answer(method, params)` for the server's requests.
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const LIMIT = 20_000;
const ROOT = 'file:///workspace';

export async function main(connect, { eras }) {
    const [url, era, journal, without] = process.argv.slice(2);
    if (!eras.includes(era)) throw new Error(`the library does not speak era ${era}`);
    let failed = 0;
    // What a failed check left behind must not end the program.
    process.on('unhandledRejection', () => {});
    for (const [name, check] of Object.entries(CHECKS)) {
        if (name === without) continue;
        const opened = [];
        // A client whose answers carry its own tag.
        const open = async (tag = 'me') => {
            const client = new Events(tag);
            const opening = connect(url, era, client.handlers());
            opened.push(opening);
            client.session = await opening;
            return client;
        };
        let why = '';
        try {
            const limit = new AbortController();
            const late = pause(LIMIT, undefined, { signal: limit.signal }).then(() =>
                Promise.reject(new Error(`no end after ${LIMIT} ms`))
            );
            late.catch(() => {});
            const skipped = await Promise.race([check({ open, era, journal }), late]);
            limit.abort();
            if (skipped === SKIP) continue;
        } catch (error) {
            why = `${error?.message ?? error}`.slice(0, 500) || 'failed';
            failed++;
        }
        console.log(JSON.stringify({ check: name, ok: !why, why }));
        await Promise.race([
            Promise.allSettled(opened.map(async (one) => (await one).close())),
            pause(3000, undefined, { ref: false })
        ]);
    }
    // The last line shows that no check is missing.
    console.log(JSON.stringify({ end: true }));
    process.exit(failed ? 1 : 0);
}

const SKIP = Symbol('skip');

// The notifications of one client, and its answers.
class Events {
    constructor(tag) {
        this.tag = tag;
        this.seen = [];
        this.waiting = [];
    }
    handlers() {
        return {
            notified: (method, params) => {
                this.seen.push({ method, params });
                this.waiting.forEach((look) => look());
            },
            answer: (method, params) => {
                this.seen.push({ method, params });
                if (method === 'roots/list') return { roots: [{ uri: ROOT, name: this.tag }] };
                if (method === 'elicitation/create')
                    return { action: 'accept', content: { answer: `${this.tag}: ${params.message}` } };
                const text = `${this.tag}: ${params.messages[0].content.text}`;
                return { role: 'assistant', model: 'none', content: { type: 'text', text } };
            }
        };
    }
    // Resolves with the first notification of a method for which `test` holds.
    until(method, test = () => true) {
        return new Promise((resolve) => {
            const look = () => {
                const found = this.seen.find((event) => event.method === method && test(event.params));
                if (found) resolve(found.params);
            };
            this.waiting.push(look);
            look();
        });
    }
    async text(name, given = {}, options = {}) {
        const result = await this.session.call(name, given, options);
        if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.content)}`);
        return result.content[0].text;
    }
}

function equal(found, wanted, what) {
    const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
    if (a !== b) throw new Error(`${what}: ${a?.slice(0, 200)} instead of ${b?.slice(0, 200)}`);
}

async function rejected(promise, what) {
    const done = await promise.then(
        (result) => result,
        (error) => ({ error })
    );
    if (!done.error && !done.isError) throw new Error(`${what} succeeded: ${JSON.stringify(done).slice(0, 200)}`);
    return String(done.error?.message ?? JSON.stringify(done.content));
}

const steps = (to) => Array.from({ length: to }, (_, index) => index + 1);

const CHECKS = {
    async server({ open }) {
        const { session } = await open();
        equal(session.serverInfo?.name, 'conformance-server', "the server's name");
        equal(session.instructions, 'Instructions of the conformance server.', 'instructions');
        const names = (await session.listTools()).map((tool) => tool.name);
        if (!names.includes('echo')) throw new Error(`tools: ${names}`);
    },
    async echo({ open }) {
        const value = {
            text: 'ä\u2028\u{1F600}"\\',
            number: 1.5,
            big: 9007199254740991,
            list: [null, true, { '': [] }]
        };
        equal(JSON.parse(await (await open()).text('echo', { value })), value, 'the echo');
    },
    async progress({ open }) {
        const client = await open();
        const seen = [];
        const answer = await client.text('count', { to: 200 }, { onprogress: ({ progress }) => seen.push(progress) });
        equal(seen, steps(200), 'progress before the answer');
        equal(answer, 'counted to 200', 'the answer');
    },
    async logging({ open, era }) {
        const client = await open();
        const log = (data) => client.text('log', { level: 'warning', data }, era === 'new' ? { level: 'info' } : {});
        if (era === 'old') await client.session.setLevel('info');
        await log('hello');
        const { level, data, logger } = await client.until(
            'notifications/message',
            (params) => params.data === 'hello'
        );
        equal([level, data, logger], ['warning', 'hello', 'probe'], 'the message');
    },
    async 'list changed'({ open }) {
        const client = await open();
        await client.session.watch();
        await client.text('add_tool', { name: `added-${process.pid}-${Date.now()}` });
        await client.until('notifications/tools/list_changed');
        const names = (await client.session.listTools()).map((tool) => tool.name);
        if (!names.some((name) => name.startsWith('added-'))) throw new Error('the new tool is not in the list');
    },
    async 'resource updated'({ open }) {
        const client = await open();
        await client.session.watch('test://watched-resource');
        await client.text('touch', { uri: 'test://watched-resource' });
        await client.until('notifications/resources/updated', ({ uri }) => uri === 'test://watched-resource');
    },
    async completion({ open }) {
        equal(await (await open()).session.complete('pa'), ['paris', 'park', 'party'], 'completions');
    },
    async elicitation({ open }) {
        const answer = JSON.parse(await (await open()).text('ask', { kind: 'elicitation', message: 'Who?' }));
        equal(answer.content, { answer: 'me: Who?' }, 'the answer');
    },
    async sampling({ open }) {
        const answer = JSON.parse(await (await open()).text('ask', { kind: 'sampling', message: 'Say' }));
        equal(answer.content.text, 'me: Say', 'the answer');
    },
    async roots({ open }) {
        const answer = JSON.parse(await (await open()).text('ask', { kind: 'roots', message: '' }));
        equal(answer.roots, [{ uri: ROOT, name: 'me' }], 'the answer');
    },
    async cancellation({ open, journal }) {
        const client = await open();
        const name = `wait-${process.pid}-${Math.random()}`;
        const cancel = new AbortController();
        const call = client.session.call('wait', { name }, { signal: cancel.signal, onprogress: () => cancel.abort() });
        await rejected(call, 'a cancelled call');
        const reached = () => readFileSync(journal, 'utf8').includes(`"event":"cancelled","name":"${name}"`);
        while (!reached()) await pause(20);
        equal(JSON.parse(await client.text('echo', { value: 1 })), 1, 'a call after the cancellation');
    },
    async ping({ open, era }) {
        if (era !== 'old') return SKIP;
        await (await open()).session.ping();
    },
    async large({ open }) {
        const client = await open();
        const length = 20_000_000;
        equal((await client.text('large', { length })).length, length, 'characters of a large result');
        const value = 'y'.repeat(5_000_000);
        equal((await client.text('echo', { value })).length, value.length + 2, 'characters of a large argument');
    },
    async errors({ open }) {
        const client = await open();
        const why = await rejected(client.session.call('no-such-tool', {}), 'an unknown tool');
        if (!why.includes('no-such-tool')) throw new Error(`the error does not name the tool: ${why}`);
        await rejected(client.session.call('echo', {}), 'a call without its argument');
    },
    // Tokens and ids of both clients are equal, as each library counts from the same number.
    async 'two at once'({ open }) {
        const clients = [await open('first'), await open('second')];
        const rounds = clients.map(async (client, index) => {
            for (const round of steps(10)) {
                const seen = [];
                const counted = client.text(
                    'count',
                    { to: 20 + index },
                    { onprogress: ({ progress }) => seen.push(progress) }
                );
                const asked = client.text('ask', {
                    kind: round % 2 ? 'sampling' : 'elicitation',
                    message: `m${round}`
                });
                equal(JSON.parse(await client.text('echo', { value: client.tag })), client.tag, 'the echo');
                equal(await counted, `counted to ${20 + index}`, 'the count');
                equal(seen, steps(20 + index), `progress of ${client.tag}`);
                const answer = await asked;
                if (!answer.includes(`${client.tag}: m${round}`)) throw new Error(`${client.tag} got: ${answer}`);
            }
        });
        await Promise.all(rounds);
    },
    async 'two lists'({ open }) {
        const [first, second] = [await open('first'), await open('second')];
        await Promise.all([first.session.watch('test://static-text'), second.session.watch('test://watched-resource')]);
        await first.text('touch', { uri: 'test://static-text' });
        await first.until('notifications/resources/updated');
        await second.text('touch', { uri: 'test://watched-resource' });
        await second.until('notifications/resources/updated');
        for (const [client, uri] of [
            [first, 'test://static-text'],
            [second, 'test://watched-resource']
        ]) {
            const seen = client.seen.filter(({ method }) => method === 'notifications/resources/updated');
            equal(
                seen.map(({ params }) => params.uri),
                [uri],
                `updates for ${client.tag}`
            );
        }
    },
    // The last one: it ends a process of the server.
    async 'server ends'({ open }) {
        const client = await open();
        await rejected(client.session.call('exit', {}), 'a call whose server ended');
        equal(JSON.parse(await (await open()).text('echo', { value: 2 })), 2, 'a call of another client');
    }
};
