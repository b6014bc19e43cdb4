import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { softMoe } from "../../src/layers/soft_moe.ts";
import { transformerBlock } from "../../src/layers/transformer_block.ts";
import { causalSelfAttention } from "../../src/layers/causal_self_attention.ts";
import { ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { assertPlanHolds, readPlan } from "../support/check_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

checkLayer({
  layer: softMoe({ experts: 3, slots: 2, width: 4, inner: 5 }),
  name: "softMoe(3 x 2, 4 -> 5, ffn, gelu)",
  params: { ".slots": "f32[4, 6]", ".scale": "f32[]", ".experts.up": "f32[3, 4, 5]", ".experts.down": "f32[3, 5, 4]" },
  inputs: [{ shape: [2, 5, 4] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden }) => [hidden],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

type Matrix = readonly (readonly number[])[];

function softmaxOf(logits: readonly number[]): number[] {
  const powers = logits.map(Math.exp);
  return powers.map((power) => power / powers.reduce((a, b) => a + b));
}

function unit(row: readonly number[]): number[] {
  const length = Math.sqrt(row.reduce((total, value) => total + value ** 2, 1e-6));
  return row.map((value) => value / length);
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((total, value, i) => total + value * b[i]!, 0);
}

/** One sequence of real tokens through ReLU experts up [E][F][D] and down [E][D][F], slots [E · P][D]. */
function mixNaively(tokens: Matrix, slots: Matrix, scale: number, up: readonly Matrix[], down: readonly Matrix[]) {
  const perExpert = slots.length / up.length;
  const logits = tokens.map((token) => slots.map((slot) => scale * dot(unit(token), unit(slot))));
  const treated = slots.map((_, s) => {
    const shares = softmaxOf(logits.map((row) => row[s]!));
    const mixed = tokens[0]!.map((_, d) => dot(shares, tokens.map((token) => token[d]!)));
    const expert = Math.floor(s / perExpert);
    const inner = up[expert]!.map((row) => Math.max(0, dot(row, mixed)));
    return down[expert]!.map((row) => dot(row, inner));
  });
  return logits.map((row) => {
    const shares = softmaxOf(row);
    return tokens[0]!.map((_, d) => dot(shares, treated.map((slot) => slot[d]!)));
  });
}

oracleTest("softMoe() equals a loop over slots and leaves padding out", async () => {
  const [experts, slots, width, inner, length] = [2, 3, 4, 5, 6];
  const layer = softMoe({ experts, slots, width, inner, activation: "relu" });
  const params = { ...layer.init(key(1)), scale: tensor(1.7) };
  const hidden = Array.from(
    { length: 2 },
    (_, b) => Array.from({ length }, (_, t) => [...randomSource(10 * b + t).normals(width)]),
  );
  const mask = [[true, true, true, true, true, true], [true, true, false, true, false, false]];
  const output = layer.apply(params, { hidden: tensor(hidden), mask: tensor(mask) });
  const found = [...await output.hidden.data()];

  const [slotData, up, down] = [
    await params.slots.data(),
    await params.experts.up.data(),
    await params.experts.down.data(),
  ];
  const rowsOf = (data: ArrayLike<number>, e: number, rows: number, columns: number) =>
    Array.from(
      { length: rows },
      (_, r) => Array.from({ length: columns }, (_, c) => data[(e * columns + c) * rows + r]!),
    );
  const slotRows = rowsOf(slotData, 0, experts * slots, width);
  const ups = Array.from({ length: experts }, (_, e) => rowsOf(up, e, inner, width));
  const downs = Array.from({ length: experts }, (_, e) => rowsOf(down, e, width, inner));
  const expected = hidden.flatMap((sequence, b) => {
    const mixed = mixNaively(sequence.filter((_, t) => mask[b]![t]), slotRows, 1.7, ups, downs);
    return mask[b]!.flatMap((isReal) => isReal ? mixed.shift()! : new Array(width).fill(0));
  });
  assertClose(found, expected, { relative: 1e-6, absolute: 1e-7 }, "mixed");

  const plan = await readPlan(output.plan);
  assertPlanHolds(plan);
  assertEquals(plan.counts, [6, 6]);
});

oracleTest("softMoe() has a defined result where all tokens are padding", async () => {
  const layer = softMoe({ experts: 2, width: 3, inner: 2 });
  const mask = tensor([false, false]);
  const { hidden } = layer.apply(layer.init(key(0)), { hidden: tensor([[NaN, 1, 2], [3, 4, 5]]), mask });
  assert((await hidden.data()).every((value) => value === 0));
});

oracleTest("softMoe() is the body of a transformer block and says that it looks ahead", () => {
  const body = softMoe({ experts: 2, width: 4, inner: 3 });
  const block = transformerBlock({ width: 4, attention: causalSelfAttention({ width: 4, heads: 1 }), body });
  const { hidden, plan } = block.apply(block.init(key(0)), { hidden: ones([2, 3, 4]) });
  assertEquals([hidden.shape, plan?.experts, body.router.causal], [[2, 3, 4], 2, false]);
});

Deno.test("softMoe() refuses bad options and inputs", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { experts: 0, width: 4, slots: 1.5, router: null };
  assertEquals(
    assertThrows(() => softMoe(wrong), ConfigError).message,
    `Cannot build softMoe: 3 options are invalid
  experts  0     must be a whole number from 1 up
  slots    1.5   must be a whole number from 1 up
  router   null  unknown option; the options are experts, slots, width, inner, activation, body, bias, scale, outputScale`,
  );
});

oracleTest("softMoe() refuses hidden states of another width", () => {
  const layer = softMoe({ experts: 2, width: 4 });
  assertEquals(
    assertThrows(() => layer.apply(layer.init(key(0)), { hidden: ones([2, 3]) }), ShapeError).message,
    `Cannot mix f32[2, 3]: it should be [..., tokens, 4]
  op  softMoe(2 x 1, 4 -> 16, ffn, gelu)
Fix: pass whole sequences; a mask has the shape of the hidden states without the last axis`,
  );
});
