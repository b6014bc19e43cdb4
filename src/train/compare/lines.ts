/**
 * A stream of bytes as lines of text.
 *
 * @module
 */

/**
 * Cuts a stream into lines.
 *
 * @param stream UTF-8.
 * @returns The lines as they come, without their newlines; the last one even where it has none.
 */
export async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void, void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}
