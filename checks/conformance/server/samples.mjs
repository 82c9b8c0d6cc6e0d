// Contents that several tools, resources and prompts return.
import { fromJsonSchema } from '@modelcontextprotocol/server';

// A picture of one pixel.
export const PICTURE =
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
// A WAV file without samples.
export const SOUND = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=';

export const text = (value) => ({ content: [{ type: 'text', text: value }] });

// Returns an object's schema: each property is a type's name or a schema.
export function object(properties = {}, required = Object.keys(properties)) {
    const full = Object.entries(properties).map(([name, value]) => [
        name,
        typeof value === 'string' ? { type: value } : value
    ]);
    return { type: 'object', properties: Object.fromEntries(full), required };
}

export const input = (properties, required) => fromJsonSchema(object(properties, required));
