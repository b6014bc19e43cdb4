/**
 * The nearest known name to a mistyped one, for messages that ask "did you mean".
 *
 * @module
 */

/** Letters a name must share with the start of a longer one to count as its short form. */
const SHORT_FORM = 4;

/**
 * Finds the candidate nearest to `name` by edit distance, letter case ignored.
 *
 * @param name What was given.
 * @param candidates What would have been right, in the order in which ties are settled.
 * @returns The first candidate that starts with `name`; else the nearest within a third of its letters (at least two
 * edits); else undefined.
 */
export function nearestName(name: string, candidates: readonly string[]): string | undefined {
  const given = name.toLowerCase();
  const longer = candidates.find((candidate) => candidate.toLowerCase().startsWith(given));
  if (longer !== undefined && given.length >= SHORT_FORM) return longer;
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(given, candidate.toLowerCase());
    if (distance > Math.max(2, Math.floor(candidate.length / 3)) || distance >= candidate.length) continue;
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions and substitutions that turn one word into the other. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
