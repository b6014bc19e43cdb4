import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import type { Key } from "../../src/core/key.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { ones, zeros } from "../../src/ops/creation.ts";
import { dropout } from "../../src/ops/dropout.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { bernoulli } from "../../src/ops/samplers.ts";
import { assertClose, checkOp, gpuTest, oracleTest, toleranceFor } from "../support/check_primitive.ts";

checkOp({
  name: "dropout",
  fn: (x) => dropout(key(4), x!, 0.25),
  samples: [{ inputs: [{ shape: [3, 5] }] }, { inputs: [{ shape: [8] }] }],
});

async function checkMask(): Promise<void> {
  // The same key twice is an error in one trace, so the draw is repeated with another handle on it.
  const step = jit((from: Key, again: Key, x: Tensor) => ({
    value: dropout(from, x, 0.3),
    gradient: grad((inner: Tensor) => sum(dropout(again, inner, 0.3)))(x),
  }));
  const { value, gradient } = await read(step(key(11), key(11), ones([40, 50])));
  const [kept] = await read([bernoulli(key(11), [40, 50], { probability: 0.7 })] as const);
  assertClose(value, [...kept].map((bit) => bit / 0.7), toleranceFor("f32"), "value");
  assertClose(gradient, value, toleranceFor("f32"), "gradient");
  const share = [...kept].reduce((total, bit) => total + bit, 0) / kept.length;
  assertEquals(Math.abs(share - 0.7) < 0.03, true, `share ${share}`);
}

oracleTest("dropout() keeps what bernoulli keeps, in the value and in the gradient", checkMask);
gpuTest("dropout() keeps what bernoulli keeps, in the value and in the gradient", checkMask);

Deno.test("dropout() at rate 0 returns its input", () => {
  const x = ones([3]);
  assertEquals(dropout(key(0), x, 0) === x, true);
});

Deno.test("dropout() refuses rates outside 0 to 1, and integers", () => {
  assertThrows(() => dropout(key(0), ones([3]), 1), ConfigError, "rate");
  assertThrows(() => dropout(key(0), ones([3]), -0.1), ConfigError, "rate");
  assertThrows(() => dropout(key(0), zeros([3], { dtype: "i32" }), 0.5), DTypeError, "dropout");
});
