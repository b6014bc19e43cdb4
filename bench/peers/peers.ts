/**
 * The peers: which there are, how each is asked, and how one is timed beside this library.
 *
 * @module
 */
import { type Contender, type Entrant, entrantOf, timeInTurns, type Timing, type TimingOptions } from "../harness.ts";
import { WrongResultError } from "../verify.ts";
import { type Peer, PeerError, startPeer } from "./process.ts";
import type { HostArrays, Outputs, Task } from "./task.ts";

/** The work of a contender, for other libraries. */
export interface PeerWork {
  /** Name of the contender that does the same. */
  readonly contender: string;
  /** The work. */
  readonly task: Task;
  /** The very inputs of the contender. */
  inputs(): HostArrays | Promise<HostArrays>;
  /** Compares results with the definition that the contender was checked with. */
  check(outputs: Outputs): void | Promise<void>;
  /** Whether a call of the task waits by itself, as the contender's does. */
  readonly waits?: boolean;
}

/** A library on a backend. */
export interface PeerName {
  /** Package. */
  readonly library: "jax-js" | "tfjs";
  /** `webgpu` competes on the same device; `wasm` is what a user could take instead. */
  readonly backend: "webgpu" | "wasm";
}

/** All peers. */
export const PEERS: readonly PeerName[] = [
  { library: "jax-js", backend: "webgpu" },
  { library: "jax-js", backend: "wasm" },
  { library: "tfjs", backend: "webgpu" },
  { library: "tfjs", backend: "wasm" },
];

/** A peer's name in results. */
export function peerTitle({ library, backend }: PeerName): string {
  return `${library} ${backend}`;
}

/** The ways to write a task in a library, best first: the first one that works is timed. */
function formsOf({ library }: PeerName, task: Task): readonly string[] {
  if (library === "tfjs") return ["eager"];
  return task.kind === "moe" ? ["jit", "eager", "jit dense"] : ["jit", "eager"];
}

/** What came of a peer. */
export interface PeerOutcome {
  /** Who. */
  readonly peer: PeerName;
  /** The form that worked; null if none did. */
  readonly form: string | null;
  /** The forms that did not, and why. */
  readonly failures: readonly { readonly form: string; readonly reason: string }[];
  /** This library's time and the peer's, taken in turns; null if no form worked or nothing was to be timed. */
  readonly timings: { readonly ours: Timing; readonly theirs: Timing } | null;
}

/** What timing needs. */
export interface PeerTimingOptions extends TimingOptions {
  /** What waiting for an idle device costs this process. */
  readonly waitMs: number;
}

/** Checks a peer and, with options, times it in turns with the contender that does the same work. */
export async function measurePeer(
  peer: PeerName,
  work: PeerWork,
  contender: Contender,
  options: PeerTimingOptions | null,
): Promise<PeerOutcome> {
  const inputs = await work.inputs();
  const failures: { form: string; reason: string }[] = [];
  for (const form of formsOf(peer, work.task)) {
    let running: Peer | null = null;
    try {
      // A new process for each form: what one broke must not spoil the next.
      running = await startPeer(peer.library, peer.backend);
      await work.check(await running.prepare(work.task, inputs, form));
      if (options === null) return { peer, form, failures, timings: null };
      const entrants = [entrantOf(contender, options), await peerEntrant(running, peer, work)];
      const [ours, theirs] = await timeInTurns(entrants, options) as [Timing, Timing];
      return { peer, form, failures, timings: { ours, theirs } };
    } catch (error) {
      if (!(error instanceof PeerError || error instanceof WrongResultError)) throw error;
      const reason = error instanceof WrongResultError ? `wrong result: ${error.message}` : error.message;
      failures.push({ form, reason });
    } finally {
      await running?.close();
    }
  }
  return { peer, form: null, failures, timings: null };
}

async function peerEntrant(running: Peer, peer: PeerName, { waits = false }: PeerWork): Promise<Entrant> {
  // Without a wait of its own, as on wasm, next to nothing is subtracted.
  const waitMs = waits ? 0 : await running.measureWait();
  return {
    name: peerTitle(peer),
    turn: async (calls) => await running.turn(calls, { settle: !waits }) - waitMs,
  };
}
