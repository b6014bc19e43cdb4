import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { OutOfMemoryError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { currentRuntime, installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import type { GpuRuntime } from "../../src/gpu/device_runtime.ts";
import { add, arange, broadcastTo, concat, mul, reshape, slice, sum, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { startRuntime } from "./support/fuzz_runtimes.ts";
import { dedent } from "./support/messages.ts";

/** Runs on a device with WebGPU's default limits: 128 MiB for a binding, 8 buffers for a kernel. */
async function withDefaultLimits(run: () => Promise<void>): Promise<void> {
  const previous = installRuntime(await startRuntime());
  try {
    assertEquals((currentRuntime("test") as GpuRuntime).device.limits.maxStorageBufferBindingSize, 128 * 2 ** 20);
    await run();
  } finally {
    installRuntime(previous);
  }
}

gpuTest(
  "a result too large for one buffer is refused by name, before anything is allocated",
  () =>
    withDefaultLimits(async () => {
      const row = tensor(new Float32Array(8192));
      const square = jit((x: Tensor) => add(broadcastTo(x, [8200, 8192]), 1), { name: "square" });
      const before = currentRuntime("test").memory();
      const error = assertThrows(() => square(row), OutOfMemoryError);
      assertEquals(error.code, "limits/buffer");
      assertEquals(
        error.message,
        dedent(`
        Cannot store f32[8200, 8192] in square: 257 MiB exceeds maxBufferSize 256 MiB
        Fix: use a smaller batch, split the tensor, store f16 or bf16, or init() on an adapter with a higher limit`),
      );
      assertEquals(currentRuntime("test").memory().allocations, before.allocations);
      // What is never stored may have any size.
      assertEquals(await sum(broadcastTo(tensor([1]), [8192, 8192])).item(), 2 ** 26);
    }),
);

gpuTest("an argument too large for one buffer is refused when it is uploaded", () =>
  withDefaultLimits(async () => {
    const x = tensor(new Float32Array(2 ** 26 + 1));
    await assertRejects(() => sum(x).item(), OutOfMemoryError, "Cannot store f32[67108865]: 257 MiB");
    assertEquals((await x.data()).length, 2 ** 26 + 1, "it still has its value on the host");
  }));

gpuTest("what is too large for one binding is bound in windows", () =>
  withDefaultLimits(async () => {
    const size = 2 ** 25 + 5;
    const values = new Float32Array(size);
    values[2 ** 25 - 1] = 3;
    values[size - 1] = 7;
    const f = jit((x: Tensor) => {
      const y = add(mul(x, 2), 1);
      return { y, total: sum(x), ends: slice(x, [{ start: 2 ** 25 - 1 }]) };
    });
    const { y, total, ends } = f(tensor(values));
    assertEquals([...await ends.data()], [3, 0, 0, 0, 0, 7]);
    assertEquals(await total.item(), 10);
    assertEquals([...await slice(y, [{ start: 2 ** 25 - 2 }]).data()], [1, 7, 1, 1, 1, 1, 15]);
  }));

gpuTest("a tensor of exactly the limit can be bound", () =>
  withDefaultLimits(async () => {
    assertEquals(await sum(add(tensor(new Float32Array(2 ** 25)), 1)).item(), 2 ** 25);
  }));

gpuTest("more than 65,535 workgroups: elementwise work on 20 million elements", async () => {
  const count = 20_000_003;
  const step = jit((x: Tensor) => {
    const y = add(mul(x, 2), 1);
    return { y, total: sum(slice(y, [{ start: -3 }])) };
  });
  const { y, total } = step(arange(count, { dtype: "u32" }));
  assertEquals(await total.item(), 6 * count - 9);
  const places = [0, 1, 4_194_239, 4_194_240, 16_776_960, count - 2, count - 1];
  for (const place of places) assertEquals(await slice(y, [place]).item(), 2 * place + 1, `element ${place}`);
});

gpuTest("more than 65,535 workgroups: rows, one invocation each", async () => {
  const rows = 4_300_000;
  const sums = sum(reshape(arange(2 * rows, { dtype: "u32" }), [rows, 2]), { axis: 1 });
  for (const row of [0, 65_535, 4_194_304, rows - 1]) assertEquals(await slice(sums, [row]).item(), 4 * row + 1);
});

gpuTest("a kernel never binds more buffers than the device allows", () =>
  withDefaultLimits(async () => {
    const inputs = Array.from({ length: 24 }, (_, i) => tensor([[i, i + 1, i + 2, i + 3]]));
    const f = jit((...xs: Tensor[]) => {
      const total = xs.reduce((sum, x) => add(sum, x));
      return [total, concat(xs), xs.slice(0, 12).map((x, i) => mul(x, xs[i + 12]!)).reduce((sum, x) => add(sum, x))];
    });
    const [total, joined, products] = f(...inputs) as [Tensor, Tensor, Tensor];
    assertEquals([...await total.data()], [276, 300, 324, 348]);
    assertEquals((await joined.data())[95], 26);
    assertEquals(
      (await products.data())[0],
      Array.from({ length: 12 }, (_, i) => i * (i + 12)).reduce((a, b) => a + b),
    );
    assert(!f.program(...inputs).includes("undefined"));
  }));
