/**
 * Running a process up to the first line it prints.
 *
 * @module
 */

/** How a process is started. */
export interface StartOptions {
  /** Whether Mesa may take compiled kernels from its disk cache. */
  readonly warm: boolean;
}

/**
 * Runs a script until it prints a number, and ends it.
 *
 * @returns The number.
 * @throws {Error} If it ends without one.
 */
export async function firstLoss(script: URL, args: readonly string[], { warm }: StartOptions): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--config",
      new URL("../deno.json", import.meta.url).pathname,
      "--allow-all",
      script.href,
      ...args,
    ],
    stdout: "piped",
    stderr: "null",
    env: warm ? {} : { MESA_SHADER_CACHE_DISABLE: "true" },
  }).spawn();
  let text = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)) {
    text += part;
    if (text.includes("\n")) break;
  }
  // How long it takes to give the device back is not of interest; it may have ended by itself.
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  await child.status;
  const value = Number.parseFloat(text);
  if (Number.isNaN(value)) throw new Error(`${script.pathname} ended without a loss: ${text}`);
  return value;
}
