import { assert, assertEquals } from "@std/assert";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mul } from "../../src/ops/binary.ts";
import { stack } from "../../src/ops/concat.ts";
import { ones } from "../../src/ops/creation.ts";
import { adafactor, applyUpdates, type OptimizerState, scaleByFactoredRms } from "../../src/optim/mod.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere, wave } from "./problem.ts";

everywhere("adafactor() treats a stack of experts as separate matrices", async () => {
  const optimizer = adafactor({ minFactoredSize: 2, momentum: 0.5, weightDecay: 0.01 });
  // Experts of very different sizes: a norm over the whole stack would show.
  const experts = [0, 1, 2].map((e) => mul(wave([4, 5], e), 10 ** e));
  const grads = (params: readonly Tensor[]) => params.map((leaf, e) => mul(leaf, 0.1 + e));
  let separate: readonly Tensor[] = experts;
  let separateState: OptimizerState = optimizer.init(separate);
  let stacked = stack(experts);
  let stackedState: OptimizerState = optimizer.init(stacked);
  const factors = stack([0, 1, 2].map((e) => mul(ones([4, 5]), 0.1 + e)));
  for (let step = 0; step < 3; step++) {
    const [updates, next] = optimizer.update(grads(separate), separateState, separate);
    [separate, separateState] = [applyUpdates(separate, updates), next];
    const [stackedUpdates, stackedNext] = optimizer.update(mul(stacked, factors), stackedState, stacked);
    [stacked, stackedState] = [applyUpdates(stacked, stackedUpdates), stackedNext];
  }
  const [found, expected] = await read([stacked, stack(separate)] as const);
  assertClose(found, expected, { relative: 1e-5, absolute: 1e-7 }, "parameters");
});

Deno.test("scaleByFactoredRms() factors large matrices only", () => {
  const params = { small: ones([3, 500]), large: ones([128, 200]), experts: ones([2, 128, 130]), vector: ones([999]) };
  const { row, column, full } = scaleByFactoredRms().init(params);
  const shapes = (map: Readonly<Record<string, Tensor>>) =>
    Object.fromEntries(Object.entries(map).map(([name, leaf]) => [name, leaf.shape]));
  assertEquals(shapes(row), { large: [128], experts: [2, 128] });
  assertEquals(shapes(column), { large: [200], experts: [2, 130] });
  assertEquals(shapes(full), { small: [3, 500], vector: [999] });
});

everywhere("adafactor() moves by a share of the parameters' size by default", async () => {
  const params = mul(ones([4, 4]), 50);
  const optimizer = adafactor();
  const [update] = optimizer.update(wave([4, 4], 0), optimizer.init(params), params);
  const size = Math.hypot(...await update.data()) / 4;
  assert(Math.abs(size - 0.01 * 50) < 1e-3, `root mean square of the update is ${size}`);
});

everywhere("adafactor() survives gradients of zero", async () => {
  const optimizer = adafactor({ minFactoredSize: 2 });
  const params = { matrix: ones([3, 4]), vector: ones([2]) };
  const zeros = { matrix: mul(params.matrix, 0), vector: mul(params.vector, 0) };
  const [updates] = optimizer.update(zeros, optimizer.init(params), params);
  const { matrix, vector } = await read(updates);
  assert([...matrix, ...vector].every((value) => Math.abs(value) < 1e-12));
});
