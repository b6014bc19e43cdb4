import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read, realizeTree } from "../../src/core/realize.ts";
import { currentRuntime, installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { compileProgram } from "../../src/gpu/program.ts";
import { freeze } from "../../src/core/graph.ts";
import type { FusionChoice } from "../../src/gpu/anchors.ts";
import { type GpuRuntime, webGpuRuntime } from "../../src/gpu/device_runtime.ts";
import { adamw, chain, clipByGlobalNorm, trainState, trainStep } from "../../src/optim/mod.ts";
import { add, exp, key, matmul, mean, mul, square, sub, sum } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { uniformTensor } from "../support/draw.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "./support/compile.ts";

type Params = Readonly<Record<string, Tensor>>;

/** Parameters of seven lengths, with scalars and odd ones among them. */
const SHAPES = { w1: [12, 40], b1: [40], w2: [40, 33], b2: [33], w3: [33, 4], b3: [4], scale: [] } as const;

function model(p: Params, x: Tensor): Tensor {
  const hidden = add(matmul(x, p.w1!), p.b1!);
  const deeper = add(matmul(square(hidden), p.w2!), p.b2!);
  return mul(add(matmul(deeper, p.w3!), p.b3!), p.scale!);
}

function startStep() {
  const optimizer = chain(clipByGlobalNorm(0.5), adamw({ learningRate: 0.01, weightDecay: 0.1 }));
  const step = trainStep({
    loss: (p: Params, { x, y }: { x: Tensor; y: Tensor }) => mean(square(sub(model(p, x), y))),
    optimizer,
  });
  const params: Params = Object.fromEntries(
    Object.entries(SHAPES).map(([name, shape], i) => [name, uniformTensor(shape, i, { limit: 1 })]),
  );
  const state = realizeTree(trainState({ params, optimizer, key: key(0) }));
  const batch = realizeTree({
    x: uniformTensor([16, 12], 8, { limit: 1 }),
    y: uniformTensor([16, 4], 9, { limit: 1 }),
  });
  return { step, state, batch };
}

/** What three steps make of the state, where fusion takes these steps, and the dispatches of one. */
async function trained(fusion: FusionChoice) {
  const { device, adapter } = currentRuntime("test") as GpuRuntime;
  const previous = installRuntime(webGpuRuntime(device, adapter, { fusion }));
  try {
    const { step, state, batch } = startStep();
    const dispatches = Number(/(\d+) dispatches/.exec(step.program(state, batch))![1]);
    let next = state;
    for (let i = 0; i < 3; i++) [next] = step(next, batch);
    return { dispatches, found: await read({ params: next.params, optimizer: next.optimizer }) };
  } finally {
    installRuntime(previous);
  }
}

gpuTest("updates of parameters of all lengths share dispatches, and no bit of them changes", async () => {
  const [bundled, apart] = [await trained("all"), await trained({ without: ["bundles"] })];
  assertEquals(bundled.found, apart.found);
  assert(bundled.dispatches <= apart.dispatches - 8, `${bundled.dispatches} and ${apart.dispatches}`);
});

Deno.test("elementwise work on values of different lengths is one dispatch, within the buffers of a kernel", () => {
  const scale = (...x: Tensor[]) => x.map((x) => exp(mul(x, 2)));
  const args = [f32(7), f32(100), f32(64, 80), f32(), f32(3, 5)];
  for (const adapter of [SOFTWARE, HARDWARE]) {
    const one = compile(scale as never, args, { adapter });
    assertEquals(one.dispatches.length, 1, String(one));
    assertEquals(one.origins[0]!.ops.length, 5);
    const few = compile(scale as never, args, { adapter, maxBuffers: 4 });
    assert(few.dispatches.length >= 3, String(few));
    assert(few.dispatches.every(({ bindings }) => bindings.length <= 4), String(few));
  }
});

Deno.test("what reads a result runs behind it, and large work stays apart", () => {
  const chained = compile((x, y) => {
    const total = sum(x!, { axis: 0 });
    return [total, mul(sum(total), y!)];
  }, [f32(64, 80), f32(9)]);
  assert(chained.dispatches.length >= 2, String(chained));
  const large = compile((x, y) => [exp(x!), exp(y!)], [f32(1000, 1001), f32(1000, 1002)]);
  assertEquals(large.dispatches.length, 2, String(large));
});

Deno.test("a result never moves before the last reader of the argument that it takes over", () => {
  // The second result takes over the first argument, which the first result reads across its elements.
  const f = (x: Tensor, y: Tensor) => [sum(matmul(x, y), { axis: 0 }), mul(y, 3)];
  const program = compile(f as never, [f32(8, 8), f32(8, 8)], { donate: [0, 1] });
  const reader = program.dispatches.findIndex(({ label }) => label.includes("matmul"));
  program.results.forEach((result) => {
    if (result.from !== "kernel" || result.takes === null) return;
    const writer = program.dispatches.findIndex(({ bindings }) =>
      bindings.some(({ buffer, access }) => buffer === result.buffer && access === "read_write")
    );
    assert(writer > reader, String(program));
  });
});

Deno.test("a program says what a bundle holds, and can be compiled without any", () => {
  const graphOf = () => {
    const scale = (...x: Tensor[]) => x.map((x) => exp(mul(x, 2)));
    const [a, b] = [uniformTensor([100], 1, { limit: 1 }), uniformTensor([64, 80], 2, { limit: 1 })];
    return freeze([], scale(a, b), SOFTWARE);
  };
  const options = { adapter: SOFTWARE, label: "test", maxBuffers: 32 };
  assertStringIncludes(String(compileProgram(graphOf(), options)), "2 x exp");
  const apart = compileProgram(graphOf(), { ...options, fusion: { without: ["bundles"] } });
  assertEquals(apart.dispatches.map(({ label }) => label), ["exp", "exp"]);
});

gpuTest("bundles of columns' sums, rows and elementwise work compute what their parts do", async () => {
  const f = jit((x: Tensor, y: Tensor, z: Tensor) => [
    sum(x, { axis: 0 }),
    sum(y, { axis: 1 }),
    exp(z),
    sum(z),
    mul(y, 2),
  ]);
  const inputs = [[48, 20], [70, 33], [5]].map((shape, i) => uniformTensor(shape, i, { limit: 1 }));
  const [x, y, z] = realizeTree(inputs) as [Tensor, Tensor, Tensor];
  const [columns, rows, powers, total, doubled] = await read(f(x, y, z));
  const [xs, ys, zs] = await read([x, y, z]);
  const near = (found: ArrayLike<number>, expected: (i: number) => number) =>
    assert(Array.from(found).every((value, i) => Math.abs(value - expected(i)) <= 1e-4), "far from the definition");
  const sumOf = (count: number, at: (i: number) => number) =>
    Array.from({ length: count }, (_, i) => at(i)).reduce((a, b) => a + b, 0);
  near(columns!, (i) => sumOf(48, (r) => xs![r * 20 + i]!));
  near(rows!, (i) => sumOf(33, (c) => ys![i * 33 + c]!));
  near(powers!, (i) => Math.exp(zs![i]!));
  near([...total!], () => sumOf(5, (i) => zs![i]!));
  near(doubled!, (i) => 2 * ys![i]!);
});
