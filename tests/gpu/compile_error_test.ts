import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CompileError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { definePrimitive } from "../../src/core/primitive.ts";
import { currentRuntime, installRuntime } from "../../src/core/runtime.ts";
import { apply, type Tensor } from "../../src/core/tensor.ts";
import { init } from "../../src/gpu/device.ts";
import { add, ones, tensor } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";

const brokenPrimitive = definePrimitive<null>({
  name: "broken",
  kind: "discrete",
  shape: ([x]) => [x!],
  host: ([x]) => [x!],
  lower: { as: "expr", wgsl: ([x]) => `noSuchFunction(${x})` },
});

function broken(x: Tensor): Tensor {
  return apply(brokenPrimitive, [x]);
}

async function withOwnDevice(run: () => Promise<void>): Promise<void> {
  const previous = installRuntime(null);
  try {
    await init({ budgetBytes: 2 ** 25 });
    await run();
  } finally {
    installRuntime(previous);
  }
}

function expectReport(error: CompileError): void {
  assertEquals(error.code, "compile/wgsl");
  const lines = error.message.split("\n");
  assertEquals(lines[0], "Cannot compile kernel broken: this is a bug of Switchyard");
  assert(lines[1]!.startsWith("  message  "), lines[1]);
  assert(error.message.includes("noSuchFunction"), "the driver's message");
  assert(lines.includes("Fix: report it with the kernel text below"));
  assert(/^ +\d+ {2}let v\d+ = noSuchFunction\(/m.test(error.message), `the numbered kernel text\n${error.message}`);
  assertEquals(typeof error.details.wgsl, "string");
}

gpuTest(
  "a kernel that does not compile fails the read of its result, with its label and text",
  () =>
    withOwnDevice(async () => {
      expectReport(await assertRejects(() => broken(tensor([1, 2, 3])).data(), CompileError));
    }),
);

gpuTest("a kernel that does not compile under jit fails the next read of anything", () =>
  withOwnDevice(async () => {
    const good = add(ones([5]), 1);
    jit((x: Tensor) => broken(x), { name: "step" })(ones([5]));
    expectReport(await assertRejects(() => good.data(), CompileError));
  }));

gpuTest(
  "calls right after a kernel that does not compile fail with it or not at all, and so do later ones",
  () =>
    withOwnDevice(async () => {
      const step = jit((x: Tensor) => broken(x), { name: "step" });
      let x = ones([5]);
      try {
        for (let i = 0; i < 3; i++) x = step(x);
      } catch (error) {
        assert(error instanceof CompileError);
      }
      await assertRejects(() => x.data(), CompileError);
      expectReport(assertThrows(() => step(x), CompileError));
      await assertRejects(() => currentRuntime("test").settle(), CompileError);
    }),
);
