import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { type AttentionCache, causalSelfAttention } from "../../src/layers/causal_self_attention.ts";
import { add } from "../../src/ops/binary.ts";
import { full, ones, tensor } from "../../src/ops/creation.ts";
import { normal } from "../../src/ops/samplers.ts";
import { key } from "../../src/ops/random.ts";
import { pad, sliceAxis } from "../../src/ops/slice.ts";
import { reshape } from "../../src/ops/view.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { checkLayer } from "../support/check_layer.ts";
import { assertClose, type Tolerance } from "../support/check_primitive.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";

const SAME: Tolerance = { relative: 1e-5, absolute: 1e-5 };
const layer = causalSelfAttention({ width: 6, heads: 3 });

checkLayer({
  layer,
  name: "causalSelfAttention(6, 3 x 2)",
  params: { ".qkv.weight": "f32[6, 18]", ".output.weight": "f32[6, 6]" },
  inputs: [{ shape: [2, 5, 6] }],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

checkLayer({
  layer: causalSelfAttention({ width: 5, heads: 1, headWidth: 4, bias: true, rotaryBase: 20 }),
  name: "causalSelfAttention(5, 1 x 4)",
  params: {
    ".qkv.weight": "f32[5, 12]",
    ".qkv.bias": "f32[12]",
    ".output.weight": "f32[4, 5]",
    ".output.bias": "f32[5]",
  },
  inputs: [{ shape: [3, 5] }],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

oracleTest("causalSelfAttention() does not let a later token change an earlier one", async () => {
  const params = layer.init(key(1));
  const x = normal(key(2), [1, 7, 6]);
  const before = await layer.apply(params, x).data();
  for (let last = 1; last < 7; last++) {
    const bump = pad(full([1, 7 - last, 6], 9), [0, [last, 0], 0]);
    const after = await layer.apply(params, add(x, bump)).data();
    assertEquals(after.slice(0, last * 6), before.slice(0, last * 6));
  }
});

gpuTest("causalSelfAttention() decodes from a cache what it computes at once, with one trace", async () => {
  const params = layer.init(key(1));
  const x = normal(key(2), [2, 9, 6]);
  const whole = await layer.apply(params, x).data();
  const start = layer.prefill(params, sliceAxis(x, 1, { stop: 4 }), 9);
  const step = jit((token: Tensor, cache: AttentionCache, positions: Tensor) =>
    layer.decode(params, token, cache, positions)
  );
  const found = [start.hidden];
  let cache = start.cache;
  for (let position = 4; position < 9; position++) {
    const token = reshape(sliceAxis(x, 1, { start: position, stop: position + 1 }), [2, 6]);
    const next = step(token, cache, full([2], position, { dtype: "u32" }));
    cache = next.cache;
    found.push(reshape(next.hidden, [2, 1, 6]));
  }
  assertEquals(step.traces, 1);
  let position = 0;
  for (const part of found) {
    const length = part.shape[1]!;
    const data = await part.data();
    for (let row = 0; row < 2; row++) {
      const expected = whole.slice((row * 9 + position) * 6, (row * 9 + position + length) * 6);
      assertClose(data.slice(row * length * 6, (row + 1) * length * 6), expected, SAME, `position ${position}`);
    }
    position += length;
  }
});

oracleTest("causalSelfAttention() decodes sequences of different lengths side by side", async () => {
  const params = layer.init(key(1));
  const x = normal(key(2), [2, 4, 6]);
  const { cache } = layer.prefill(params, x, 6);
  const token = normal(key(3), [2, 6]);
  const both = await layer.decode(params, token, cache, tensor([2, 4], { dtype: "u32" })).hidden.data();
  // Sequence 0 has two tokens, whatever else was in its row.
  const short = sliceAxis(sliceAxis(x, 0, { stop: 1 }), 1, { stop: 2 });
  const alone = layer.prefill(params, short, 6);
  const first = sliceAxis(token, 0, { stop: 1 });
  const expected = await layer.decode(params, first, alone.cache, tensor([2], { dtype: "u32" })).hidden.data();
  assertClose(both.slice(0, 6), expected, SAME, "short sequence");
});

Deno.test("causalSelfAttention() refuses heads that do not divide the width, and a sequence past the cache", () => {
  const error = assertThrows(() => causalSelfAttention({ width: 10, heads: 4 }), ConfigError);
  assertEquals(
    error.message,
    [
      "Cannot build causalSelfAttention: 1 option is invalid",
      "  heads  4  must divide width, 10, into even parts",
    ].join("\n"),
  );
  const full = assertThrows(() => layer.prefill(layer.init(key(0)), ones([1, 5, 6]), 4), ShapeError);
  assertEquals(
    full.message,
    [
      "Cannot keep 5 tokens: the cache has room for 4",
      "  x  f32[1, 5, 6]",
      "Fix: ask for a larger cache or pass fewer tokens",
    ].join("\n"),
  );
});
