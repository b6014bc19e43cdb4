/**
 * Writing files so that they are on the disk when the call returns, and whole whenever they can be seen.
 *
 * @module
 */

/**
 * Writes a new file and waits until the disk has it.
 *
 * @param path A name that no reader looks at yet.
 * @param bytes The content.
 */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  let written = 0;
  while (written < bytes.length) written += await file.write(bytes.subarray(written));
  await file.sync();
}

/**
 * Replaces a file in one step: readers see the old content or the new, never a part.
 *
 * @param path The file, which need not exist.
 * @param content Bytes, or text to be encoded as UTF-8.
 */
export async function writeWhole(path: string, content: Uint8Array | string): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  await writeDurably(`${path}.new`, bytes);
  await Deno.rename(`${path}.new`, path);
}

/**
 * Waits until the disk has a folder's entries, so that a rename survives a loss of power.
 *
 * @param path The folder.
 */
export async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a folder as a file; its renames are journaled.
  if (Deno.build.os === "windows") return;
  using folder = await Deno.open(path, { read: true });
  await folder.sync();
}
