import { assertEquals, assertStringIncludes } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import type { Dispatch } from "../../src/gpu/dispatch.ts";
import { shareTexts, sizesIn } from "../../src/gpu/share.ts";
import { gelu, matmul, sum, tensor } from "../../src/ops/mod.ts";
import { assertClose, gpuTest, randomSource, withOracle } from "../support/check_primitive.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "./support/compile.ts";

/** A kernel with a text. */
function kernel(wgsl: string): Dispatch {
  return { label: "kernel", wgsl, bindings: [{ buffer: "%0", access: "read" }], workgroups: [1, 1, 1] };
}

function textsOf(dispatches: readonly Dispatch[]): number {
  return new Set(dispatches.map(({ wgsl }) => wgsl)).size;
}

Deno.test("kernels that differ in sizes share a text that reads them from a buffer of its own", () => {
  const shared = shareTexts(
    [kernel("let a = 12u * 7u;\nlet b = 12u;"), kernel("let a = 34u * 7u;\nlet b = 34u;")],
    SOFTWARE,
  );
  assertEquals(textsOf(shared), 1);
  // The same number at two places is one size, and what is equal everywhere stays.
  assertStringIncludes(shared[0]!.wgsl, "let a = sizes[0].x * 7u;\nlet b = sizes[0].x;");
  assertStringIncludes(shared[0]!.wgsl, "@binding(1) var<uniform> sizes: array<vec4<u32>, 1>;");
  assertEquals(shared.map(({ bindings }) => [...sizesIn(bindings[1]!.buffer)!]), [[12, 0, 0, 0], [34, 0, 0, 0]]);
  assertEquals(sizesIn("%0"), null);
});

Deno.test("a fifth size goes to a second vector, and many sizes are not shared", () => {
  const text = (count: number, add: number) =>
    Array.from({ length: count }, (_, i) => `x += ${10 * i + add}u;`).join("\n");
  const five = shareTexts([kernel(text(5, 1)), kernel(text(5, 2))], SOFTWARE);
  assertStringIncludes(five[0]!.wgsl, "x += sizes[1].x;");
  assertEquals([...sizesIn(five[1]!.bindings[1]!.buffer)!], [2, 12, 22, 32, 42, 0, 0, 0]);
  assertEquals(textsOf(shareTexts([kernel(text(17, 1)), kernel(text(17, 2))], SOFTWARE)), 2);
});

Deno.test("numbers that have to be constant, or are divisors, keep kernels apart", () => {
  for (const text of ["x = y / N;", "x = y % (N + z);", "case N: {}", "var a: array<f32, N>;", "const c = N;"]) {
    const kernels = ["12u", "34u"].map((size) => kernel(text.replace("N", size)));
    assertEquals(shareTexts(kernels, SOFTWARE), kernels, text);
  }
});

Deno.test("equal kernels stay as they are, and so do all of a hardware adapter", () => {
  const same = [kernel("x = 12u;"), kernel("x = 12u;"), kernel("y = 12u;")];
  assertEquals(shareTexts(same, SOFTWARE), same);
  const kernels = [kernel("x = 12u;"), kernel("x = 34u;")];
  assertEquals(shareTexts(kernels, HARDWARE), kernels);
});

Deno.test("layers of different depth are one kernel to the driver", () => {
  const layers = (x: Tensor, a: Tensor, b: Tensor) => gelu(matmul(gelu(matmul(x, a)), b));
  const { dispatches } = compile(layers as (...args: Tensor[]) => unknown, [
    f32(128, 512),
    f32(512, 256),
    f32(256, 256),
  ]);
  const products = dispatches.filter(({ label }) => label.startsWith("matmul"));
  assertEquals(products.length, 2);
  assertEquals(textsOf(products), 1);
});

gpuTest("kernels that share a text compute what each is for", async () => {
  const f = (x: Tensor, a: Tensor, b: Tensor, c: Tensor) => {
    const hidden = matmul(x, a);
    return {
      hidden,
      deep: matmul(hidden, b),
      wide: matmul(c, b),
      sums: sum(x, { axis: 0 }),
      more: sum(c, { axis: 0 }),
    };
  };
  const run = (step: typeof f) => {
    const random = randomSource(5);
    const drawn = (rows: number, columns: number) =>
      tensor(Float32Array.from({ length: rows * columns }, () => random.uniform(-1, 1)), { shape: [rows, columns] });
    return read(step(drawn(40, 20), drawn(20, 32), drawn(32, 32), drawn(44, 32)));
  };
  const expected = await withOracle(() => run(f));
  const step = jit(f);
  for (let turn = 0; turn < 2; turn++) {
    const found = await run(step);
    for (const name of ["hidden", "deep", "wide", "sums", "more"] as const) {
      assertClose(found[name], expected[name], { relative: 1e-5, absolute: 1e-5 }, name);
    }
  }
});
