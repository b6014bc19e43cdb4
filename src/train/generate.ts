/**
 * Generating text from a model, byte after byte, with a cache of keys and values.
 *
 * @module
 */
import {
  argmax,
  categorical,
  type DecodeState,
  div,
  expectNoProblems,
  foldIn,
  jit,
  type Key,
  key,
  leavesOf,
  read,
  scalar,
  type Tensor,
  tensor,
} from "../../mod.ts";
import type { Model, ModelParams } from "./model.ts";

/** What to generate. */
export interface GenerateOptions {
  /** Text to go on from; where it is empty, the model starts as after the end of a document. */
  readonly prompt: Uint8Array;
  /** Bytes to generate. */
  readonly tokens: number;
  /** 0 takes the likeliest byte each time; 1 draws from the model's distribution; more is wilder. */
  readonly temperature: number;
  /** Seed of the draws. */
  readonly seed: number;
  /** Bytes that the model looks back on at most, such as the length of its training windows. */
  readonly window: number;
}

/** What the device carries from byte to byte. */
interface Carried {
  readonly logits: Tensor;
  readonly state: DecodeState;
}

/** Bytes drawn before the host looks at them: a read costs as much as several steps. */
const CHUNK = 32;
const NEWLINE = 10;

/**
 * Generates bytes after a prompt. The same parameters and options give the same bytes.
 *
 * The cache has room for one window. When it is full, the later half of the window is read anew and generation goes on
 * from there. Two programs are compiled, whatever the prompt's length: one that reads a prompt, one that adds a byte.
 *
 * @param model The model.
 * @param params Its parameters.
 * @param options What to generate.
 * @returns The bytes, some at a time, without the prompt.
 * @throws {ConfigError} If a number is out of range.
 */
export async function* generate(
  model: Model,
  params: ModelParams,
  options: GenerateOptions,
): AsyncGenerator<Uint8Array, void, void> {
  expectOptions(options);
  const { prompt, tokens, temperature, window } = options;
  const known = prompt.length === 0 ? [NEWLINE] : [...prompt];
  const drawKey = key(options.seed);
  const heat = scalar(temperature);

  const readPrompt = jit(function readPrompt(params: ModelParams, ids: Tensor, lengths: Tensor): Carried {
    const { logits, state } = model.prefill(params, { ids, lengths }, window);
    return { logits, state };
  });
  // The caches are replaced at every byte, so their memory is handed on.
  const draw = jit(function draw({ logits }: Pick<Carried, "logits">, key: Key, at: Tensor, heat: Tensor): Tensor {
    return temperature === 0 ? argmax(logits, { axis: -1 }) : categorical(foldIn(key, at), div(logits, heat)); // [1]
  });
  const addByte = jit(function addByte(state: DecodeState, params: ModelParams, ids: Tensor): Carried {
    const { logits, state: next } = model.decodeStep(params, ids, state);
    return { logits, state: next };
  }, { donate: [0] });

  function reread(): { readonly carried: Carried; readonly position: number } {
    // A window that is full to the brim would be reread at every byte.
    const kept = known.slice(-(known.length < window ? known.length : Math.max(1, window >> 1)));
    const ids = new Uint32Array(window);
    ids.set(kept);
    const carried = readPrompt(
      params,
      tensor(ids, { shape: [1, window], dtype: "u32" }),
      tensor([kept.length], { dtype: "u32" }),
    );
    return { carried, position: kept.length };
  }

  let { carried, position } = reread();
  let pending: Tensor[] = [];
  for (let done = 1; done <= tokens; done++) {
    const next = draw({ logits: carried.logits }, drawKey, scalar(done, { dtype: "u32" }), heat);
    pending.push(next);
    const [isLast, isFull] = [done === tokens, position === window];
    if (!isLast && !isFull) {
      carried.logits.dispose();
      carried = addByte(carried.state, params, next);
      position++;
    }
    if (isLast || isFull || pending.length === CHUNK) {
      const bytes = Uint8Array.from(await read(pending), ([byte]) => byte!);
      release(pending);
      pending = [];
      known.push(...bytes);
      yield bytes;
    }
    if (!isLast && isFull) {
      release(carried);
      ({ carried, position } = reread());
    }
  }
  release(carried);
}

/**
 * Generates bytes and decodes them as UTF-8; what is not UTF-8 becomes U+FFFD.
 *
 * @param model The model.
 * @param params Its parameters.
 * @param options What to generate.
 * @returns The text without the prompt, some at a time.
 * @throws {ConfigError} If a number is out of range.
 */
export async function* generateText(
  model: Model,
  params: ModelParams,
  options: GenerateOptions,
): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  for await (const bytes of generate(model, params, options)) yield decoder.decode(bytes, { stream: true });
  const rest = decoder.decode();
  if (rest !== "") yield rest;
}

function release(tree: unknown): void {
  for (const [, leaf] of leavesOf(tree)) leaf.dispose();
}

function expectOptions({ tokens, temperature, window, seed }: GenerateOptions): void {
  const isCount = (value: number, least: number): boolean => Number.isSafeInteger(value) && value >= least;
  expectNoProblems("a generator", [
    ...(isCount(tokens, 0) ? [] : [["tokens", tokens, "must be a whole number from 0 up"] as const]),
    ...(temperature >= 0 && temperature < Infinity
      ? []
      : [["temperature", temperature, "must be a number from 0 up"] as const]),
    ...(isCount(seed, 0) && seed < 2 ** 32 ? [] : [["seed", seed, "must be an integer in 0..4294967295"] as const]),
    ...(isCount(window, 1) ? [] : [["window", window, "must be a whole number from 1 up"] as const]),
  ]);
}
