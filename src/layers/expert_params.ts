/**
 * Initial parameters of stacked experts, each a feed-forward layer, for every layer that has some.
 *
 * Letters: D width, E experts, F inner width of one expert.
 *
 * @module
 */
import type { Key } from "../core/key.ts";
import { zeros } from "../ops/creation.ts";
import { split } from "../ops/random.ts";
import type { ExpertParams } from "../routing/execute.ts";
import type { FeedForwardOptions } from "./feed_forward.ts";
import { fanIn } from "./initializers.ts";

/** Draws the parameters of `experts` experts, each by its own fan-in; biases start at 0. */
export function initExperts(key: Key, experts: number, options: FeedForwardOptions): ExpertParams {
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
