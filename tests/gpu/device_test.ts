import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AdapterError, CompileError, ConfigError, DeviceLostError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { currentRuntime, installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { init, memory, settle } from "../../src/gpu/device.ts";
import type { GpuRuntime } from "../../src/gpu/device_runtime.ts";
import { add, mul, ones, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { dedent, withoutLines } from "./support/messages.ts";

/** Runs a test with no runtime installed, and puts back the one that was there. */
async function withoutRuntime(run: () => Promise<void>): Promise<void> {
  const previous = installRuntime(null);
  try {
    await run();
  } finally {
    installRuntime(previous);
  }
}

async function withRequestAdapter(replacement: GPU["requestAdapter"], run: () => Promise<void>): Promise<void> {
  const original = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(navigator.gpu), "requestAdapter");
  Object.defineProperty(navigator.gpu, "requestAdapter", { value: replacement, configurable: true });
  try {
    await run();
  } finally {
    // deno-lint-ignore no-explicit-any -- removing the stub uncovers the prototype's method
    delete (navigator.gpu as any).requestAdapter;
    assert(original !== undefined);
  }
}

Deno.test("init() without an adapter says what was asked for and how to get one", async () => {
  await withoutRuntime(() =>
    withRequestAdapter(() => Promise.resolve(null), async () => {
      const error = await assertRejects(() => init({ budgetBytes: 12345 }), AdapterError);
      assertEquals(error.code, "device/no-adapter");
      assertEquals(
        error.message.replace(/Deno .*/, "RUNTIME"),
        dedent(`
          Cannot start WebGPU: no adapter was found
            runtime    RUNTIME
            requested  powerPreference "high-performance"
          Fix: install a Vulkan driver; for tests without a GPU a software driver works (Debian package mesa-vulkan-drivers)`),
      );
    })
  );
});

Deno.test("before init() every use of the device says so", async () => {
  await withoutRuntime(async () => {
    const sum = add(tensor([1, 2]), 1);
    const error = await assertRejects(() => sum.data(), AdapterError);
    assertEquals(error.code, "device/not-initialized");
    assertEquals(
      error.message,
      dedent(`
        Cannot realize a tensor: no device yet
        Fix: await init() once at program start`),
    );
    assertThrows(() => jit(function step() {})(), AdapterError, "Cannot run jitted step: no device yet");
    assertThrows(() => memory(), AdapterError, "Cannot report memory: no device yet");
    assertThrows(() => settle(), AdapterError, "Cannot settle: no device yet");
  });
});

Deno.test("init() checks every option at once", async () => {
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const options: any = { budgetBytes: -1, fusion: "some", powerPreference: "fast", budget: 3 };
  const error = await assertRejects(() => init(options), ConfigError);
  assertEquals(
    error.message,
    dedent(`
      Cannot build a device: 4 options are invalid
        budgetBytes      -1      must be a positive number of bytes
        fusion           "some"  must be "all" or "none"
        powerPreference  "fast"  must be "high-performance" or "low-power"
        budget           3       unknown option; did you mean budgetBytes?`),
  );
});

gpuTest("init() reports what it found and starts a device once", () =>
  withoutRuntime(async () => {
    const info = await init();
    assert(info.adapter.length > 0);
    assertEquals(info.software, /llvmpipe|swiftshader/i.test(info.adapter));
    assert(info.limits.maxStorageBufferBindingSize! >= 128 * 2 ** 20);
    assert(info.limits.maxStorageBuffersPerShaderStage! >= 8);
    assertEquals(info.features.every((feature) => ["shader-f16", "timestamp-query"].includes(feature)), true);
    const runtime = currentRuntime("test");
    assertEquals(await init(), info);
    assertEquals(currentRuntime("test"), runtime);
    await init({ budgetBytes: 2 ** 28 });
    assertEquals(memory().budgetBytes, 2 ** 28);
    assert(currentRuntime("test") !== runtime);
  }));

gpuTest(
  "a lost device rejects pending reads and every later use, and init() starts another",
  () =>
    withoutRuntime(async () => {
      await init({ budgetBytes: 2 ** 27 });
      const { device } = currentRuntime("test") as GpuRuntime;
      const x = tensor([1, 2, 3]);
      const step = jit((x: Tensor) => mul(x, 2), { name: "step" });
      assertEquals([...await step(x).data()], [2, 4, 6]);
      const pending = add(x, 1).data();
      device.destroy();
      await device.lost;
      const kept = await pending.then((data) => [...data], (error: unknown) => error);
      // The copy may have been made before the device went away; what must not happen is an error of another kind.
      if (!Array.isArray(kept)) assert(kept instanceof DeviceLostError, String(kept));
      const error = assertThrows(() => step(x), DeviceLostError);
      assertEquals(error.code, "device/lost");
      assertEquals(
        withoutLines(error).replace(/(lost: ).*/, "$1MESSAGE").replace(/\d+ tensors \(\d+ bytes\)/, "N tensors (SIZE)"),
        dedent(`
        GPU device was lost: MESSAGE
          reason   destroyed
          running  eager
          tensors  N tensors (SIZE) on this device are gone
        Fix: await init(), then restore parameters from your last checkpoint`),
      );
      await assertRejects(() => x.data(), DeviceLostError);
      await assertRejects(() => ones([3]).data(), DeviceLostError);
      await assertRejects(() => settle(), DeviceLostError);
      await init({ budgetBytes: 2 ** 27 });
      assertEquals([...await ones([2]).data()], [1, 1]);
    }),
);

gpuTest("a command that WebGPU rejects surfaces at the next read", () =>
  withoutRuntime(async () => {
    await init({ budgetBytes: 2 ** 26 });
    const { device } = currentRuntime("test") as GpuRuntime;
    device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
    const error = await assertRejects(() => add(ones([2]), 1).data(), CompileError);
    assertEquals(error.code, "compile/command");
    assertEquals(error.message.split("\n")[0], "WebGPU rejected a command: this is a bug of Switchyard");
    await init({ budgetBytes: 2 ** 26 });
    assertEquals([...await ones([2]).data()], [1, 1]);
  }));
