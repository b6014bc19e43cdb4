/**
 * Error messages for pinning.
 *
 * @module
 */

/** A message with the places in it, which move when a test file changes, replaced by FILE:LINE. */
export function withoutLines(error: Error): string {
  return error.message.replaceAll(/[\w.]+\.ts:\d+:\d+/g, "FILE:LINE");
}

/** A message as a template string shows it: the first line is empty and the others are indented alike. */
export function dedent(text: string): string {
  const lines = text.split("\n").slice(1);
  const margin = Math.min(...lines.filter((line) => line.trim() !== "").map((line) => line.search(/\S/)));
  return lines.map((line) => line.slice(margin)).join("\n").trimEnd();
}
