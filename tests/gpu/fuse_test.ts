/**
 * What the compiler makes of common functions: how many dispatches, and for some the whole printed program.
 *
 * `SWITCHYARD_UPDATE_GOLDEN=1 deno task test tests/gpu/fuse_test.ts` writes `golden/programs.txt` anew; read the change.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import {
  add,
  crossEntropy,
  div,
  exp,
  gelu,
  layerNorm,
  logSoftmax,
  matmul,
  mean,
  mul,
  relu,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  transpose,
} from "../../src/ops/mod.ts";
import type { Aval } from "../../src/core/shape.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "./support/compile.ts";
import { programProblems } from "./support/program_checks.ts";

interface Case {
  readonly name: string;
  readonly run: (...args: Tensor[]) => unknown;
  readonly args: readonly Aval[];
  readonly donate?: readonly number[];
  readonly dispatches: number;
  /** The same on hardware adapters, whose rows take whole workgroups; by default as many. */
  readonly hardware?: number;
  /** Whether the printed program is kept as text. */
  readonly golden?: true;
}

function affineNorm(x: Tensor, scale: Tensor, bias: Tensor): Tensor {
  return layerNorm(x, { scale, bias });
}

/** Weights, gradients and both moments in, the same without gradients out. */
function adamUpdate(weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor): readonly Tensor[] {
  const momentum = add(mul(first, 0.9), mul(gradient, 0.1));
  const spread = add(mul(second, 0.999), mul(square(gradient), 0.001));
  return [sub(weight, mul(div(momentum, add(sqrt(spread), 1e-8)), 0.01)), momentum, spread];
}

function gradientOf(f: (...args: Tensor[]) => Tensor): (...args: Tensor[]) => unknown {
  return (...args) => vjp(f, ...args.slice(0, -1))[1](args.at(-1)!);
}

const labels: Aval = { shape: [64], dtype: "u32" };

const CASES: readonly Case[] = [
  {
    name: "chain of elementwise ops",
    run: (x, y) => relu(add(mul(x, y), exp(x!))),
    args: [f32(9, 7), f32(9, 7)],
    dispatches: 1,
  },
  { name: "softmax", run: (x) => softmax(x!), args: [f32(64, 100)], dispatches: 1, golden: true },
  { name: "softmax of few rows", run: (x) => softmax(x!), args: [f32(4, 100)], dispatches: 1 },
  { name: "softmax of one row", run: (x) => softmax(x!), args: [f32(100)], dispatches: 1 },
  { name: "softmax of odd rows", run: (x) => softmax(x!), args: [f32(40, 33)], dispatches: 1 },
  { name: "softmax gradient", run: gradientOf((x) => softmax(x!)), args: [f32(64, 100), f32(64, 100)], dispatches: 1 },
  { name: "logSoftmax", run: (x) => logSoftmax(x!), args: [f32(64, 100)], dispatches: 1 },
  {
    name: "layerNorm",
    run: affineNorm as Case["run"],
    args: [f32(64, 96), f32(96), f32(96)],
    dispatches: 1,
    golden: true,
  },
  {
    name: "layerNorm gradients: rows in one kernel, the column sums of both parameters in another",
    run: gradientOf(affineNorm as (...args: Tensor[]) => Tensor),
    args: [f32(64, 96), f32(96), f32(96), f32(64, 96)],
    dispatches: 2,
    golden: true,
  },
  {
    name: "Adam update, in place",
    run: adamUpdate as Case["run"],
    args: [f32(1000), f32(1000), f32(1000), f32(1000)],
    donate: [0, 2, 3],
    dispatches: 1,
    golden: true,
  },
  {
    name: "matmul with bias and gelu behind it",
    run: (x, w, b) => gelu(add(matmul(x!, w!), b!)),
    args: [f32(64, 32), f32(32, 128), f32(128)],
    dispatches: 1,
    golden: true,
  },
  {
    name: "cross-entropy gradient",
    run: (x, y) => grad((logits: Tensor) => crossEntropy(logits, y!))(x!),
    args: [f32(64, 100), labels],
    dispatches: 1,
  },
  { name: "mean over all, in two steps", run: (x) => mean(x!), args: [f32(300, 200)], dispatches: 2 },
  { name: "transpose read where it is used", run: (x) => add(transpose(x!), 1), args: [f32(30, 20)], dispatches: 1 },
  {
    name: "two sums of one product",
    run: (x, y) => [sum(mul(x!, y!), { axis: 1 }), sum(mul(x!, y!), { axis: 0 })],
    args: [f32(64, 80), f32(64, 80)],
    dispatches: 1,
    hardware: 2,
  },
];

for (const { name, run, args, donate = [], dispatches, hardware = dispatches } of CASES) {
  Deno.test(`${name}: ${dispatches} dispatch${dispatches === 1 ? "" : "es"}`, () => {
    for (const adapter of [SOFTWARE, HARDWARE]) {
      const program = compile(run, args, { adapter, donate });
      const expected = adapter.software ? dispatches : hardware;
      assertEquals(program.dispatches.length, expected, `${adapter.name}\n${program}`);
      assertEquals(programProblems(program, 32), []);
    }
  });
}

Deno.test("a donated argument is overwritten by the kernel that reads it last", () => {
  const program = compile(adamUpdate as Case["run"], [f32(9), f32(9), f32(9), f32(9)], { donate: [0, 2, 3] });
  assertEquals(
    program.results.map((result) => result.from === "kernel" && result.takes),
    [0, 2, 3],
  );
  const [kernel] = program.dispatches;
  assertEquals(kernel!.bindings.filter(({ access }) => access === "read").map(({ buffer }) => buffer), ["%1"]);
});

Deno.test("a donated argument is not overwritten while other elements of it are still read", () => {
  const crossed = compile((x) => add(x!, transpose(x!)), [f32(8, 8)], { donate: [0] });
  assertEquals(crossed.results.map((result) => result.from === "kernel" && result.takes), [null]);
  // The last result reads only its own element of what the first kernel makes, but its neighbor reads it across: one
  // kernel for all would compute the shared value again from elements that are overwritten by then.
  const expensive = (x: Tensor) => exp(exp(exp(exp(exp(x)))));
  const program = compile(
    (x) => {
      const shared = expensive(x!);
      const across = add(transpose(shared), 1);
      return [across, add(across, shared)];
    },
    [f32(8, 8)],
    { donate: [0] },
  );
  assertEquals(programProblems(program, 32), []);
  assertEquals(program.dispatches.length, 2, String(program));
});

const goldenFile = new URL("golden/programs.txt", import.meta.url);

Deno.test("printed programs are as in golden/programs.txt", async () => {
  const text = CASES.filter(({ golden }) => golden).map(({ name, run, args, donate = [] }) =>
    `# ${name}\n${compile(run, args, { donate })}\n`
  ).join("\n");
  if (Deno.env.get("SWITCHYARD_UPDATE_GOLDEN") === "1") await Deno.writeTextFile(goldenFile, text);
  assertEquals(text, await Deno.readTextFile(goldenFile), "see the top of this file for how to accept a change");
});

Deno.test("an Adam update in place is one kernel on adapters with 8 buffers: what it replaces is bound once", () => {
  const args = [f32(1000), f32(1000), f32(1000), f32(1000)];
  const counts = [[0, 2, 3], []].map((donate) =>
    compile(adamUpdate as Case["run"], args, { maxBuffers: 8, donate }).dispatches.map(({ bindings }) =>
      bindings.length
    )
  );
  assertEquals(counts[0]!.length, 1);
  assertEquals(counts.flat().every((count) => count <= 8), true, String(counts));
});

Deno.test("an optimizer's moments are not appended to a product on software adapters, a single update is", () => {
  const adam = (x: Tensor, dy: Tensor, w: Tensor, first: Tensor, second: Tensor) =>
    adamUpdate(w, matmul(x, dy, { transposeA: true }), first, second);
  const sgd = (x: Tensor, dy: Tensor, w: Tensor) => sub(w, mul(matmul(x, dy, { transposeA: true }), 0.1));
  const [x, dy, w] = [f32(16, 32), f32(16, 64), f32(32, 64)];
  for (const [adapter, dispatches] of [[SOFTWARE, 2], [HARDWARE, 1]] as const) {
    const program = compile(adam as Case["run"], [x, dy, w, w, w], { adapter, donate: [2, 3, 4] });
    assertEquals(program.dispatches.length, dispatches, `${adapter.name}\n${program}`);
    assertEquals(compile(sgd as Case["run"], [x, dy, w], { adapter, donate: [2] }).dispatches.length, 1);
  }
  // What has a kernel of its own works in place: it binds the moments and the weights once.
  const update = compile(adam as Case["run"], [x, dy, w, w, w], { donate: [2, 3, 4] }).dispatches[1]!;
  assertEquals(update.bindings.map(({ access }) => access).toSorted(), [
    "read",
    "read_write",
    "read_write",
    "read_write",
  ]);
});

Deno.test("small updates that have nothing to do with each other share a kernel, large ones do not", () => {
  const scale = (...x: Tensor[]) => x.map((x) => mul(x, 2));
  const dispatches = (n: number) => compile(scale as Case["run"], [f32(n), f32(n), f32(n)]).dispatches.length;
  assertEquals([dispatches(1000), dispatches(1_000_000)], [1, 3]);
});
