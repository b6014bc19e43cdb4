import { assert, assertEquals } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { realizeTree } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, mul, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";

gpuTest("each read of a donated counter sees the step before it", async () => {
  const step = jit((count: Tensor) => add(count, 1), { donate: [0] });
  let count = realizeTree(tensor(new Float32Array(100)));
  for (let i = 1; i <= 200; i++) {
    count = step(count);
    assertEquals((await count.data())[99], i);
  }
});

gpuTest("reads that are not waited for keep what they asked for", async () => {
  const step = jit((x: Tensor) => mul(x, 2), { donate: [0] });
  let x = realizeTree(tensor(new Float32Array(16).fill(1)));
  const reads: Promise<ArrayLike<number>>[] = [];
  for (let i = 0; i < 12; i++) {
    x = step(x);
    reads.push(x.data());
  }
  const found = await Promise.all(reads);
  assertEquals(found.map((values) => values[15]), Array.from({ length: 12 }, (_, i) => 2 ** (i + 1)));
});

gpuTest("a read of many megabytes, and one right after it, are whole", async () => {
  const count = 3 * 2 ** 20;
  const large = realizeTree(tensor(Float32Array.from({ length: count }, (_, i) => i)));
  const found = await add(large, 1).data();
  assertEquals(found.length, count);
  assert(found.every((value, i) => value === i + 1));
  assertEquals([...await add(tensor([1, 2]), 1).data()], [2, 3]);
});

gpuTest("timers get their turn in a loop of reads", async () => {
  const x = realizeTree(tensor([1]));
  let isOver = false;
  const timer = setTimeout(() => isOver = true, 1);
  try {
    for (let i = 0; i < 10_000 && !isOver; i++) await add(x, 1).data();
    assert(isOver, "10,000 reads without a turn of the event loop");
  } finally {
    clearTimeout(timer);
  }
});
