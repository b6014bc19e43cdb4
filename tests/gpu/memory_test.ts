import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { OutOfMemoryError, ReleasedError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { own, realizeTree } from "../../src/core/realize.ts";
import { installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { init, memory, settle } from "../../src/gpu/device.ts";
import { sizeClass } from "../../src/gpu/pool.ts";
import { add, mul, ones, sub, sum, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { dedent } from "./support/messages.ts";

const MEGABYTE = 2 ** 20;
/** Elements of 1 MiB of f32. */
const COUNT = MEGABYTE / 4;

/** Runs a test on a device of its own with a budget of 64 MiB. */
async function withBudget(run: () => Promise<void> | void, budgetBytes = 64 * MEGABYTE): Promise<void> {
  const previous = installRuntime(null);
  try {
    await init({ budgetBytes });
    await run();
  } finally {
    installRuntime(previous);
  }
}

function megabyteOf(value: number): Tensor {
  return tensor(new Float32Array(COUNT).fill(value));
}

gpuTest("1000 donated steps allocate nothing after the second", async () => {
  const step = jit(
    ({ w, moment }: { w: Tensor; moment: Tensor }, rate: Tensor) => {
      const next = add(mul(moment, 0.9), w);
      return { w: sub(w, mul(next, rate)), moment: next, loss: sum(mul(w, w)) };
    },
    { donate: [0] },
  );
  const rate = tensor(0.001);
  let state = { w: tensor(new Float32Array(1000).fill(1)), moment: tensor(new Float32Array(1000)) };
  let before = 0;
  for (let i = 0; i < 1000; i++) {
    const { loss, ...next } = step(state, rate);
    loss.dispose();
    state = next;
    if (i === 1) before = memory().allocations;
  }
  assertEquals(memory().allocations, before);
  assert(Number.isFinite((await state.w.data())[0]));
});

gpuTest("the process does not grow over 1000 donated steps of a mebibyte", async () => {
  const step = jit((w: Tensor) => ({ w: mul(w, 0.999), loss: sum(w) }), { donate: [0] });
  let w = tensor(new Float32Array(MEGABYTE / 4).fill(1));
  let before = 0;
  for (let i = 0; i < 1000; i++) {
    const next = step(w);
    w = next.w;
    if (i % 100 === 99) await next.loss.data();
    next.loss.dispose();
    if (i === 199) before = Deno.memoryUsage().rss;
  }
  // A buffer kept each step would be 800 MiB; the rest is what the JavaScript heap does between collections.
  const grown = Deno.memoryUsage().rss - before;
  assert(grown < 100 * MEGABYTE, `${(grown / MEGABYTE).toFixed(0)} MiB more`);
});

gpuTest("1000 donated steps that read their loss now and then stay in the buffers of the first few", async () => {
  const step = jit((w: Tensor) => ({ w: mul(w, 0.999), loss: sum(w) }), { donate: [0] });
  let w = tensor(new Float32Array(500).fill(1));
  let before = 0;
  for (let i = 0; i < 1000; i++) {
    using loss = own(step(w));
    w = loss.tree.w;
    if (i % 100 === 99) await loss.tree.loss.data();
    // The block's end would release the state too: what is kept leaves the block as a value of its own.
    w = add(w, 0);
    realizeTree(w);
    if (i === 20) before = memory().allocations;
  }
  assertEquals(memory().allocations, before);
});

gpuTest("an eager loop without disposal stays within its budget as long as it awaits", () =>
  withBudget(async () => {
    for (let i = 0; i < 300; i++) {
      const x = megabyteOf(i);
      const y = add(mul(x, 2), 1);
      const data = await y.data();
      assertEquals(data[COUNT - 1], 2 * i + 1);
      const { liveBytes, pooledBytes, scratchBytes } = memory();
      assert(liveBytes + pooledBytes + scratchBytes <= 64 * MEGABYTE, `${liveBytes} live, ${pooledBytes} pooled`);
    }
  }));

gpuTest(
  "a loop that never awaits runs out of its budget, says what holds it, and recovers",
  () =>
    withBudget(async () => {
      let kept: Tensor[] = [];
      const error = assertThrows(() => {
        for (let i = 0; i < 100; i++) {
          const x = megabyteOf(i);
          realizeTree(add(x, 1));
          kept.push(x);
        }
      }, OutOfMemoryError);
      assertEquals(error.code, "memory/budget");
      assertEquals(
        error.message,
        dedent(`
        Cannot allocate 1.0 MB for f32[262144]: the budget is 67.1 MB
          live now  67.1 MB in 64 tensors
          scratch   0 bytes
        Fix: use a smaller batch, dispose tensors or await a read now and then, or init({ budgetBytes })`),
      );
      for (const x of kept) x.dispose();
      kept = [];
      assertEquals((await add(megabyteOf(1), 1).data())[0], 2);
    }),
);

gpuTest("a program that does not fit takes nothing", () =>
  withBudget(async () => {
    const f = jit((x: Tensor) => [1, 2, 3, 4, 5].map((factor) => mul(x, factor)), { name: "widen" });
    const x = tensor(new Float32Array(10 * COUNT));
    const others = realizeTree(add(tensor(new Float32Array(10 * COUNT)), 1));
    const before = memory().liveBytes;
    assertThrows(() => f(x), OutOfMemoryError, "Cannot allocate 10.5 MB for widen: the budget is 67.1 MB");
    assertEquals(memory().liveBytes, before + 10 * MEGABYTE, "the argument alone, uploaded by the call");
    assertEquals((await x.data()).length, 10 * COUNT);
    others.dispose();
  }));

gpuTest("a donated argument survives a call that does not fit", () =>
  withBudget(async () => {
    const f = jit((x: Tensor) => [1, 2, 3, 4, 5, 6, 7, 8].map((factor) => mul(x, factor)), {
      name: "widen",
      donate: [0],
    });
    const x = tensor(new Float32Array(10 * COUNT).fill(3));
    assertThrows(() => f(x), OutOfMemoryError);
    assertEquals((await x.data())[7], 3);
  }));

gpuTest("dropped tensors are found by the collector under pressure", () =>
  withBudget(async () => {
    function fill(): void {
      for (let i = 0; i < 40; i++) realizeTree(add(megabyteOf(i), 1)).dispose();
    }
    fill();
    assert(memory().liveBytes > 32 * MEGABYTE);
    await settle();
    assert(memory().liveBytes <= 32 * MEGABYTE, `${memory().liveBytes} bytes live`);
  }));

gpuTest("dispose() and using give buffers back at once", () =>
  withBudget(() => {
    const before = memory();
    {
      using x = realizeTree(add(megabyteOf(1), 1));
      assertEquals(x.disposed, false);
      assertEquals(memory().liveBytes, before.liveBytes + 2 * MEGABYTE);
    }
    assertEquals(memory().liveBytes, before.liveBytes + MEGABYTE);
    assertEquals(memory().pooledBytes, before.pooledBytes + MEGABYTE);
    const again = realizeTree(add(megabyteOf(1), 1));
    assertEquals(memory().pooledBytes, before.pooledBytes, "the idle buffer serves the upload");
    again.dispose();
    again.dispose();
  }));

gpuTest("a disposed tensor cannot be used, with a pinned message", async () => {
  const x = tensor([1, 2]);
  x.dispose();
  const error = assertThrows(() => add(x, 1), ReleasedError);
  assertEquals(error.code, "memory/released");
  assertEquals(error.message.split("\n")[0], "Cannot use tensor f32[2]: it was disposed");
  assertEquals(
    error.message.split("\n").at(-1),
    "Fix: dispose a tensor after its last use, or let the runtime collect it",
  );
  await assertRejects(() => x.data(), ReleasedError);
});

gpuTest("lazy tensors keep a disposed input until they are computed", () =>
  withBudget(async () => {
    const x = realizeTree(add(megabyteOf(1), 1));
    const y = mul(x, 3);
    const live = memory().liveBytes;
    x.dispose();
    assertEquals(memory().liveBytes, live, "y still needs it");
    await assertRejects(() => x.data(), ReleasedError);
    assertEquals((await y.data())[5], 6);
    assertEquals(memory().liveBytes, live, "y came, x went");
  }));

gpuTest("own() disposes every leaf of a tree at the end of its block", () =>
  withBudget(() => {
    let leaf: Tensor;
    {
      using kept = own({ a: realizeTree(add(megabyteOf(1), 1)), rest: [realizeTree(add(megabyteOf(2), 1))] });
      leaf = kept.tree.rest[0]!;
      assertEquals(leaf.disposed, false);
    }
    assertEquals(leaf.disposed, true);
    assertEquals(memory().pooledBytes, 2 * MEGABYTE);
  }));

gpuTest("results of jit are tensors of their own: disposing one leaves the others", () =>
  withBudget(async () => {
    const [same, twice, again] = jit((x: Tensor) => {
      const y = mul(x, 2);
      return [x, y, y] as const;
    })(ones([3]));
    twice.dispose();
    assertEquals([[...await same.data()], [...await again.data()]], [[1, 1, 1], [2, 2, 2]]);
  }));

Deno.test("sizeClass() wastes at most an eighth, or 255 bytes", () => {
  for (let bytes = 1; bytes < 2 ** 24; bytes = Math.ceil(bytes * 1.03)) {
    const size = sizeClass(bytes);
    assert(size >= bytes && size - bytes <= Math.max(255, bytes / 8), `${bytes} in ${size}`);
    assertEquals(size % 256, 0);
  }
});
