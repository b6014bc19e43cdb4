/**
 * Random keys: opaque, split by purpose, consumed once.
 *
 * @module
 */
import { callSite, KeyReuseError } from "./errors.ts";
import { currentTraces, type Tensor } from "./tensor.ts";

/**
 * A key of the counter-based random generator. It has no arithmetic: make one with `key(seed)`, derive others with
 * `split` and `foldIn`, and pass each to one consumer.
 */
export class Key {
  /** Its words, u32[2] (or u32[n, 2] for a batch of keys under vmap). For checkpoints, not for arithmetic. */
  readonly tensor: Tensor;
  #consumedBy: { readonly traces: readonly string[]; readonly what: string; readonly site: string } | null = null;

  /** For the library; users call `key(seed)`. */
  constructor(tensor: Tensor) {
    this.tensor = tensor;
  }

  /**
   * Marks the key as consumed and returns its words. Inside one traced function a second consumer would draw the same
   * numbers, which is nearly always a mistake; outside, repeating a draw is how tests compare, so it is allowed.
   *
   * @throws {KeyReuseError} If the same trace consumed it before.
   */
  consume(what: string): Tensor {
    const traces = currentTraces();
    if (traces.length === 0) return this.tensor;
    const before = this.#consumedBy;
    const shared = before?.traces.find((trace) => traces.includes(trace));
    if (before !== null && shared !== undefined) {
      throw new KeyReuseError("random/key-reuse", {
        summary: `Cannot use a key twice in ${shared.split("#")[0]}: both draws would be the same`,
        facts: [["first", `${before.what}, ${before.site}`], ["second", `${what}, ${callSite()}`]],
        fix: "const [a, b] = split(key, 2), and give each consumer its own",
      });
    }
    this.#consumedBy = { traces, what, site: callSite() };
    return this.tensor;
  }
}
