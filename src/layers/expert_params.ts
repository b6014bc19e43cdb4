/**
 * Sizes and initial parameters of stacked experts, for every layer that has some.
 *
 * Letters: D width, E experts, F inner width of one expert.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import { zeros } from "../ops/creation.ts";
import { oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import type { ExpertParams } from "../routing/execute.ts";
import type { Activation } from "./feed_forward.ts";
import { fanIn } from "./initializers.ts";
import { flag, nonNegative } from "./options.ts";

/** What experts look like. */
export interface ExpertOptions {
  /** Size of the last axis of input and output. */
  readonly width: number;
  /** Inner width of one expert, 4·width by default. */
  readonly inner?: number;
  /** Nonlinearity of the experts, `"gelu"` (tanh form) by default. */
  readonly activation?: Activation;
  /** `"ffn"` (the default): down(act(up(x))). `"glu"`: down(act(gate(x)) · up(x)). */
  readonly body?: "ffn" | "glu";
  /** Whether the experts add biases, false by default. */
  readonly bias?: boolean;
  /** Variance of an initial inner value whose inputs have variance 1; 1 by default. */
  readonly scale?: number;
  /** The same for an expert's output; 1 by default. */
  readonly outputScale?: number;
}

/** What the options accept. */
export const expertOptionShape: OptionShape = {
  width: positiveCount,
  inner: positiveCount.optional(),
  activation: oneOf("relu", "gelu", "silu").optional(),
  body: oneOf("ffn", "glu").optional(),
  bias: flag.optional(),
  scale: nonNegative.optional(),
  outputScale: nonNegative.optional(),
};

/** Draws the parameters of `experts` experts, each by its own fan-in; biases start at 0. */
export function initExperts(key: Key, experts: number, options: ExpertOptions): ExpertParams {
  const { width, inner = 4 * width, body = "ffn", bias = false, scale = 1, outputScale = 1 } = options;
  const [upKey, downKey, gateKey] = split(key, 3);
  const raise = (from: Key) => fanIn(from, [experts, width, inner], { inputs: width, scale });
  return {
    up: raise(upKey),
    ...(bias ? { upBias: zeros([experts, inner]) } : {}),
    ...(body === "glu" ? { gate: raise(gateKey) } : {}),
    ...(body === "glu" && bias ? { gateBias: zeros([experts, inner]) } : {}),
    down: fanIn(downKey, [experts, inner, width], { inputs: inner, scale: outputScale }),
    ...(bias ? { downBias: zeros([experts, width]) } : {}),
  };
}
