import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError, ShapeError } from "../../src/core/errors.ts";
import { smear } from "../../src/layers/smear.ts";
import { ones, tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { assertPlanHolds, readPlan } from "../support/check_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { randomSource } from "../support/random.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

checkLayer({
  layer: smear({ experts: 3, width: 4, inner: 5, body: "glu", activation: "silu", bias: true }),
  name: "smear(3, 4 -> 5, glu, silu)",
  params: {
    ".gate": "f32[4, 3]",
    ".gain": "f32[4]",
    ".offset": "f32[3]",
    ".experts.up": "f32[3, 4, 5]",
    ".experts.upBias": "f32[3, 5]",
    ".experts.gate": "f32[3, 4, 5]",
    ".experts.gateBias": "f32[3, 5]",
    ".experts.down": "f32[3, 5, 4]",
    ".experts.downBias": "f32[3, 4]",
  },
  inputs: [{ shape: [2, 3, 4] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden, shares }) => [hidden, shares],
  tolerance: { relative: 1e-4, absolute: 1e-5 },
});

function normed(row: readonly number[]): number[] {
  const mean = row.reduce((a, b) => a + b) / row.length;
  const variance = row.reduce((total, value) => total + (value - mean) ** 2, 0) / row.length;
  return row.map((value) => (value - mean) / Math.sqrt(variance + 1e-5));
}

oracleTest("smear() equals a loop that merges experts for each sequence", async () => {
  const [experts, width, inner, length] = [3, 4, 5, 6];
  const layer = smear({ experts, width, inner, activation: "relu" });
  const params = {
    ...layer.init(key(1)),
    gain: tensor([0.5, 1, 2, 1.5]),
    offset: tensor([0.3, -0.2, 0.1]),
  };
  const hidden = Array.from(
    { length: 2 },
    (_, b) => Array.from({ length }, (_, t) => [...randomSource(10 * b + t).normals(width)]),
  );
  const mask = [[true, true, true, true, true, true], [true, true, false, true, false, false]];
  const output = layer.apply(params, { hidden: tensor(hidden), mask: tensor(mask) });
  const [found, shares] = [[...await output.hidden.data()], [...await output.shares.data()]];
  const [gate, gain, offset] = [await params.gate.data(), await params.gain.data(), await params.offset.data()];
  const [up, down] = [await params.experts.up.data(), await params.experts.down.data()];

  const expected = hidden.flatMap((sequence, b) => {
    const real = sequence.filter((_, t) => mask[b]![t]);
    const pooled = normed(sequence[0]!.map((_, d) => real.reduce((total, row) => total + row[d]!, 0) / real.length));
    const powers = Array.from({ length: experts }, (_, e) => {
      const sought = normed(Array.from({ length: width }, (_, d) => gate[d * experts + e]!));
      return Math.exp(pooled.reduce((total, value, d) => total + value * sought[d]! * gain[d]!, offset[e]!));
    });
    const own = powers.map((power) => power / powers.reduce((a, b) => a + b));
    assertClose(shares.slice(b * experts, (b + 1) * experts), own, { relative: 1e-5, absolute: 1e-6 }, "shares");
    const mergedAt = (data: ArrayLike<number>, i: number) =>
      own.reduce((total, share, e) => total + share * data[e * width * inner + i]!, 0);
    return sequence.flatMap((row, t) => {
      if (!mask[b]![t]) return new Array<number>(width).fill(0);
      const middle = Array.from(
        { length: inner },
        (_, f) => Math.max(0, row.reduce((total, value, d) => total + value * mergedAt(up, d * inner + f), 0)),
      );
      return row.map((_, d) => middle.reduce((total, value, f) => total + value * mergedAt(down, f * width + d), 0));
    });
  });
  assertClose(found, expected, { relative: 1e-5, absolute: 1e-6 }, "treated");
  const plan = await readPlan(output.plan);
  assertPlanHolds(plan);
  assertEquals(plan.counts, [6, 6]);
});

oracleTest("smear() leaves experts out of the average while training", async () => {
  const layer = smear({ experts: 8, width: 4, inner: 2, expertDropout: 0.5 });
  const params = layer.init(key(0));
  const hidden = ones([20, 3, 4]);
  const all = [...await layer.apply(params, { hidden }).shares.data()];
  assert(all.every((share) => share > 0));
  const some = [...await layer.apply(params, { hidden }, { train: true, key: key(1) }).shares.data()];
  const left = some.filter((share) => share > 0).length / some.length;
  assertAlmostEquals(left, 0.5, 0.12);
  for (let b = 0; b < 20; b++) {
    const total = some.slice(8 * b, 8 * b + 8).reduce((a, b) => a + b);
    assert(total === 0 || Math.abs(total - 1) < 1e-6);
  }
  assertThrows(() => layer.apply(params, { hidden }, { train: true }), ConfigError, "no key");
});

Deno.test("smear() refuses bad options", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { experts: 2, width: -4, expertDropout: 1, dropout: 0.1 };
  assertEquals(
    assertThrows(() => smear(wrong), ConfigError).message,
    `Cannot build smear: 3 options are invalid
  expertDropout  1    must be a number from 0 up, below 1
  width          -4   must be a whole number from 1 up
  dropout        0.1  unknown option; the options are experts, expertDropout, width, inner, activation, body, bias, scale, outputScale`,
  );
});

oracleTest("smear() refuses a mask of another shape", () => {
  const layer = smear({ experts: 2, width: 4 });
  const mask = tensor([true, false]);
  assertThrows(() => layer.apply(layer.init(key(0)), { hidden: ones([2, 3, 4]), mask }), ShapeError, "mask");
});
