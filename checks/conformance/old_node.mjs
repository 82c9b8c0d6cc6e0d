// Lets Node 20 load the conformance suite. For a subcommand that is not used here, the suite imports `globSync`, which
// Node has since version 22.
import * as fs from 'node:fs';
import { register } from 'node:module';

const hooks = `
    const REPLACEMENT = 'agent-vm:fs';
    export const resolve = (name, context, next) =>
        name === 'fs' && context.parentURL?.includes('/conformance/dist/')
            ? { url: REPLACEMENT, shortCircuit: true }
            : next(name, context);
    export const load = (url, context, next) =>
        url === REPLACEMENT
            ? { format: 'module', source: 'export * from "node:fs"; export let globSync;', shortCircuit: true }
            : next(url, context);
`;
if (fs.globSync === undefined) register(`data:text/javascript,${encodeURIComponent(hooks)}`);
