/**
 * Why a file could not be read, in words for a message.
 *
 * @module
 */

/**
 * Puts an error of the file system into a few words.
 *
 * @param error What a read threw.
 * @returns A clause without capital or full stop, such as `no such file`.
 */
export function readFailure(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "no such file";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  if (error instanceof Deno.errors.NotADirectory) return "a part of the path is not a folder";
  if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
    return "reading it is not permitted";
  }
  return error instanceof Error ? error.message : String(error);
}
