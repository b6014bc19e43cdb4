/**
 * A peer's process, seen from the one that measures.
 *
 * @module
 */
import { median } from "../harness.ts";
import { readLines, readOutputs, type Reply, type Request, writeArrays } from "./protocol.ts";
import type { HostArrays, Outputs, Task } from "./task.ts";

/** What a peer could not do, in its own words. */
export class PeerError extends Error {
  /** The name of the class. */
  override readonly name = "PeerError";
}

/** A running peer. */
export interface Peer {
  /** Makes a task ready and returns what one call computes. */
  prepare(task: Task, inputs: HostArrays, form: string): Promise<Outputs>;
  /** Makes calls and waits for them, unless they wait themselves; returns the milliseconds. */
  turn(calls: number, options: { readonly settle: boolean }): Promise<number>;
  /** What one wait costs in that process while nothing is queued, in milliseconds. */
  measureWait(): Promise<number>;
  /** Ends the process. */
  close(): Promise<void>;
}

/** Longer than any call that is worth timing. */
const PATIENCE_MS = 120_000;

const WAITS = 7;

/** Starts a library on one of its backends in a process of its own. */
export async function startPeer(library: string, backend: string): Promise<Peer> {
  const folder = await Deno.makeTempDir();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-config", "--allow-all", new URL("./worker.ts", import.meta.url).href],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const replies = readLines(child.stdout);
  const requests = child.stdin.getWriter();
  let lastWords = "";
  const listening = (async () => {
    for await (const line of readLines(child.stderr)) lastWords = `${lastWords}\n${line}`.slice(-600);
  })();

  async function ask(request: Request): Promise<Reply> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new PeerError(`no answer within ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
    });
    try {
      await requests.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`)).catch(() => {});
      const { value, done } = await Promise.race([replies.next(), late]);
      if (done) throw new PeerError(`its process ended: ${lastWords.trim()}`);
      const reply = JSON.parse(value) as Reply;
      if (reply.error !== undefined) throw new PeerError(explain(reply));
      return reply;
    } finally {
      clearTimeout(timer);
    }
  }

  async function close(): Promise<void> {
    await requests.close().catch(() => {});
    // It may be in a call that never ends.
    const timer = setTimeout(() => child.kill("SIGKILL"), 2000);
    await child.status;
    clearTimeout(timer);
    await listening;
    await Deno.remove(folder, { recursive: true });
  }

  const peer: Peer = {
    async prepare(task, inputs, form) {
      const heads = await writeArrays(folder, inputs);
      const { logged } = await ask({ ask: "prepare", task, form, folder, inputs: heads });
      const outputs = await readOutputs(folder);
      if (logged !== undefined && Object.values(outputs).some((data) => data.every((value) => value === 0))) {
        throw new PeerError(`zeros, and logged: ${firstLine(logged)}`);
      }
      return outputs;
    },
    async turn(calls, { settle }) {
      return (await ask({ ask: "turn", calls, settle })).ms!;
    },
    async measureWait() {
      const waits: number[] = [];
      for (let i = 0; i < WAITS; i++) waits.push((await ask({ ask: "turn", calls: 0, settle: true })).ms!);
      return median(waits);
    },
    close,
  };
  try {
    await ask({ ask: "load", library, backend });
  } catch (error) {
    await close();
    throw error;
  }
  return peer;
}

function explain({ error, logged }: Reply): string {
  return logged === undefined ? firstLine(error!) : `${firstLine(error!)} (logged: ${firstLine(logged)})`;
}

/** Errors of shader compilers fill screens. */
function firstLine(text: string): string {
  return text.trim().split("\n").slice(0, 3).join(" ").slice(0, 300);
}
