/**
 * An error's message as one line of a report.
 *
 * @module
 */

const LONGEST = 400;

/**
 * Puts a message of several lines into one.
 *
 * @param error What was thrown.
 * @returns At most 400 characters without line breaks.
 */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const line = text.split("\n").map((part) => part.trim().replaceAll(/\s+/g, " ")).filter((part) => part !== "").join(
    "; ",
  );
  return line.length > LONGEST ? `${line.slice(0, LONGEST - 1)}…` : line;
}
