/**
 * Repeated keys in JSON text, which `JSON.parse` accepts in silence, the last one winning.
 *
 * @module
 */

/**
 * Finds the first key that one object of a JSON text has twice.
 *
 * @param text Valid JSON.
 * @returns The key, or undefined if every object's keys differ.
 */
export function findDuplicateKey(text: string): string | undefined {
  // Outside strings, only these four characters open or close a container; a string is a key where a colon follows.
  const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[{}[\]]/gs;
  const open: Set<string>[] = [];
  for (const [token, colon] of text.matchAll(tokens)) {
    if (token === "{" || token === "[") {
      open.push(new Set());
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (colon !== undefined) {
      const key = JSON.parse(token.slice(0, -colon.length)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}
