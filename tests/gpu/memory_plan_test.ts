import { assert, assertEquals, assertThrows } from "@std/assert";
import { checkpoint } from "../../src/core/custom.ts";
import { OutOfMemoryError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { init, memory } from "../../src/gpu/device.ts";
import { matmul, mul, ones, sin, sub, sum, tensor } from "../../src/ops/mod.ts";
import { trainState, trainStep } from "../../src/optim/train_step.ts";
import { sgd } from "../../src/optim/sgd.ts";
import { key } from "../../src/ops/random.ts";
import { gpuTest, withOracle } from "../support/runtimes.ts";
import { dedent } from "./support/messages.ts";

const MEGABYTE = 2 ** 20;

/** Layers of a deep function of a square matrix. */
const DEPTH = 8;

function layer(x: Tensor, w: Tensor): Tensor {
  return sin(matmul(sin(matmul(x, w)), w));
}

function deepLoss(apply: typeof layer): (w: Tensor, x: Tensor) => Tensor {
  return (w, x) => {
    let h = x;
    for (let i = 0; i < DEPTH; i++) h = apply(h, w);
    return sum(h);
  };
}

gpuTest("memory() tells what a call needs before anything runs", () => {
  const step = jit((w: Tensor, x: Tensor) => ({ w: sub(w, 1), loss: sum(x) }), { donate: [0] });
  const [w, x] = [tensor(new Float32Array(1024)), tensor(new Float32Array(1024))];
  const { argumentBytes, resultBytes, scratchBytes, peakBytes } = step.memory(w, x);
  assertEquals(argumentBytes, 2 * 4096);
  assertEquals(resultBytes, 16, "the new w takes over the buffer of the old one; the loss takes 16 bytes");
  assertEquals(peakBytes, argumentBytes + resultBytes + scratchBytes);
  assertEquals(step.traces, 1);
});

gpuTest("a call that needs more than the budget says so before it takes anything", async () => {
  const previous = installRuntime(null);
  try {
    await init({ budgetBytes: 16 * MEGABYTE });
    const grow = jit((x: Tensor) => [mul(x, 2), mul(x, 3)], { name: "grow" });
    const x = tensor(new Float32Array(1.5 * MEGABYTE));
    const before = memory().allocations;
    const error = assertThrows(() => grow(x), OutOfMemoryError);
    assertEquals(error.code, "memory/planned");
    assertEquals(
      error.message,
      dedent(`
      Cannot run grow: it needs 18.9 MB, the budget is 16.8 MB
        arguments  6.3 MB
        results    12.6 MB beside those that take over donated arguments
        scratch    0 bytes
      Fix: use a smaller batch, trainStep({ microBatches }), checkpoint() around each block, or init({ budgetBytes })`),
    );
    assert(memory().allocations <= before + 1, "only the argument was uploaded");
    assertEquals(grow.memory(x).peakBytes, error.details.peakBytes);
  } finally {
    installRuntime(previous);
  }
});

gpuTest("checkpoint() around each block shrinks the planned scratch and leaves the gradient as it is", async () => {
  const [w, x] = [mul(ones([64, 64]), 0.02), ones([64, 64])];
  const plain = jit(grad(deepLoss(layer)));
  const thrifty = jit(grad(deepLoss(checkpoint(layer))));
  assert(thrifty.memory(w, x).scratchBytes < 0.75 * plain.memory(w, x).scratchBytes);
  const [expected, found] = [await plain(w, x).data(), await thrifty(w, x).data()];
  assert(expected.every((value, i) => Math.abs(value - found[i]!) <= 1e-5 * Math.max(1, Math.abs(value))));
  const exact = await withOracle(() => grad(deepLoss(layer))(mul(ones([64, 64]), 0.02), ones([64, 64])).data());
  assert(exact.every((value, i) => Math.abs(value - found[i]!) <= 1e-3 * Math.max(1, Math.abs(value))));
});

gpuTest("micro-batches shrink the planned scratch of a train step", () => {
  const optimizer = sgd({ learningRate: 0.1 });
  const loss = (w: Tensor, rows: Tensor) => deepLoss(layer)(w, rows);
  const scratchOf = (microBatches: number) => {
    const step = trainStep({ loss, optimizer, microBatches });
    return step.memory(trainState({ params: ones([64, 64]), optimizer, key: key(0) }), ones([8192, 64])).scratchBytes;
  };
  assert(scratchOf(4) < 0.5 * scratchOf(1));
});
