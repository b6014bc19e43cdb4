import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { leavesOf } from "../../src/core/tree.ts";
import {
  productKeyMemory,
  type ProductKeyMemoryOptions,
  type ProductKeyMemoryParams,
} from "../../src/layers/product_key_memory.ts";
import { advanceQueryStatistics, type BatchNormParams } from "../../src/layers/product_key_query.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { max, min } from "../../src/ops/extremum.ts";
import { key } from "../../src/ops/random.ts";
import { sum, variance } from "../../src/ops/reduce.ts";
import { sqrt, square } from "../../src/ops/unary.ts";
import { checkLayer } from "../support/check_layer.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

const SIZES = { width: 4, halfKeys: 5, heads: 2, k: 3 };
const WITH_LAYER_NORM = { ...SIZES, queryWidth: 6 };
const TOLERANCE = { relative: 2e-5, absolute: 2e-5 };
const PROJECTED = { ".query.projection.weight": "f32[4, 12]", ".query.projection.bias": "f32[12]" };

checkLayer({
  layer: productKeyMemory({ ...SIZES, queryWidth: 6 }),
  name: "productKeyMemory(4, 2 x 3 of 5², softmax)",
  params: {
    ...PROJECTED,
    ".query.norm.scale": "f32[3]",
    ".query.norm.bias": "f32[3]",
    ".keys": "f32[2, 2, 5, 3]",
    ".values": "f32[25, 4]",
  },
  inputs: [{ shape: [2, 3, 4] }],
  tolerance: TOLERANCE,
});

checkLayer({
  layer: productKeyMemory({ ...SIZES, query: "hidden", score: "relu", layers: 2 }),
  name: "productKeyMemory(4, 2 x 3 of 5², relu)",
  params: { ".keys": "f32[2, 2, 5, 2]", ".values": "f32[25, 4]" },
  inputs: [{ shape: [5, 4] }],
  tolerance: TOLERANCE,
});

checkLayer({
  layer: productKeyMemory({ ...SIZES, queryWidth: 6, norm: "batchNorm", normalization: "joint" }),
  name: "productKeyMemory(4, 2 x 3 of 5², softmax, batchNorm)",
  params: {
    ...PROJECTED,
    ".query.norm.scale": "f32[2, 2, 3]",
    ".query.norm.bias": "f32[2, 2, 3]",
    ".query.norm.running.mean": "f32[2, 2, 3]",
    ".query.norm.running.variance": "f32[2, 2, 3]",
    ".keys": "f32[2, 2, 5, 3]",
    ".values": "f32[25, 4]",
  },
  inputs: [{ shape: [5, 4] }],
  context: () => ({ train: true }),
  tolerance: TOLERANCE,
});

/** The example of the specification, with one head whose query is the hidden state, and values of 0, 1, …, 15. */
async function checkExample(): Promise<void> {
  const layer = productKeyMemory({ width: 4, halfKeys: 4, heads: 1, k: 2, query: "hidden" });
  const params: ProductKeyMemoryParams = {
    query: {},
    keys: tensor([[[[1, 0], [0.5, 0.5], [-1, 0], [0, 1]], [[0, 1], [1, 0], [0.2, -0.8], [-0.5, -0.5]]]]),
    values: tensor(Array.from({ length: 16 }, (_, row) => [row, 0, 0, 1])),
  };
  const hidden = tensor([[1, 0, 0.5, -1]]);
  const { rows, weights } = layer.lookUp(params, hidden);
  assertEquals([...await rows.data()], [2, 1]);
  assertClose(await weights.data(), [0.598688, 0.401312], { relative: 0, absolute: 1e-6 }, "weights");
  const output = await layer.apply(params, hidden).data();
  assertClose(output, [1.598688, 0, 0, 1], { relative: 0, absolute: 2e-6 }, "output");
}
oracleTest("productKeyMemory() has the values of the published example", checkExample);
gpuTest("productKeyMemory() has the values of the published example", checkExample);

function rowsOf(data: ArrayLike<number>, width: number): readonly number[][] {
  return Array.from({ length: data.length / width }, (_, r) => Array.from(data).slice(r * width, (r + 1) * width));
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((total, value, i) => total + value * b[i]!, 0);
}

function normalizedBy(values: readonly number[], mean: number, variance: number): number[] {
  return values.map((value) => (value - mean) / Math.sqrt(variance + 1e-5));
}

/** Mean and population variance. */
function momentsOf(values: readonly number[]): readonly [mean: number, variance: number] {
  const mean = values.reduce((a, b) => a + b) / values.length;
  return [mean, values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length];
}

const VARIANTS: readonly Partial<ProductKeyMemoryOptions>[] = [
  {},
  { norm: "none", normalization: "joint" },
  { norm: "batchNorm", score: "relu" },
  { query: "hidden", score: "relu" },
  { query: "hidden", norm: "layerNorm" },
];

for (const variant of VARIANTS) {
  const { query = "projected", score = "softmax", normalization = "head" } = variant;
  oracleTest(`productKeyMemory() equals brute force over all keys: ${JSON.stringify(variant)}`, async () => {
    const { width, halfKeys, heads, k } = SIZES;
    const half = query === "hidden" ? 2 : 3;
    const norm = variant.norm ?? (query === "hidden" ? "none" : "layerNorm");
    const layer = productKeyMemory({ ...SIZES, ...variant, ...(query === "hidden" ? {} : { queryWidth: 6 }) });
    const params = layer.init(key(4));
    const hidden = Array.from({ length: 7 }, (_, t) => [...randomSource(t).normals(width)].map(Math.fround));
    const { projection } = params.query;
    const weight = projection && rowsOf(await projection.weight.data(), heads * 2 * half);
    const bias = projection && [...await projection.bias!.data()];
    const raw = hidden.map((row) => bias?.map((start, j) => start + dot(row, weight!.map((each) => each[j]!))) ?? row);
    const queries = raw.map((row) =>
      rowsOf(row, half).map((part, p) => {
        if (norm === "layerNorm") return normalizedBy(part, ...momentsOf(part));
        if (norm === "none") return part;
        return part.map((value, i) => normalizedBy([value], ...momentsOf(raw.map((each) => each[p * half + i]!)))[0]!);
      })
    );
    const keys = rowsOf(await params.keys.data(), half);
    const values = rowsOf(await params.values.data(), width);
    const expected = queries.flatMap((parts) => {
      const found = Array.from({ length: heads }, (_, h) => {
        const offset = query === "hidden" ? 0 : 2 * h;
        const scores = values.map((_, row) =>
          dot(parts[offset]!, keys[2 * h * halfKeys + Math.floor(row / halfKeys)]!) +
          dot(parts[offset + 1]!, keys[(2 * h + 1) * halfKeys + row % halfKeys]!)
        );
        const best = scores.map((_, row) => row).sort((a, b) => scores[b]! - scores[a]!).slice(0, k);
        return best.map((row) => ({ row, score: scores[row]! }));
      });
      const total = (group: readonly { readonly score: number }[]) =>
        group.reduce((sum, each) => sum + Math.exp(each.score), 0);
      const output = new Array<number>(width).fill(0);
      for (const group of found) {
        const divisor = normalization === "joint" ? total(found.flat()) : total(group);
        for (const { row, score: value } of group) {
          const share = score === "relu" ? Math.max(0, value) : Math.exp(value) / divisor;
          values[row]!.forEach((each, d) => output[d]! += share * each);
        }
      }
      return output;
    });
    const output = layer.apply(params, tensor(hidden), { train: true });
    assertClose(await output.data(), expected, { relative: 1e-6, absolute: 1e-6 }, "output");
  });
}

oracleTest(
  "productKeyMemory() gives gradients to what was read alone, and to every key half through its weight",
  async () => {
    const layer = productKeyMemory({ ...SIZES, queryWidth: 6 });
    const params = layer.init(key(1));
    const hidden = tensor(randomSource(2).normals(8), { shape: [2, 4] });
    const grads = grad((p: ProductKeyMemoryParams) => sum(square(layer.apply(p, hidden))))(params);
    const read = new Set(await layer.lookUp(params, hidden).rows.data());
    const rows = rowsOf(await grads.values.data(), 4);
    rows.forEach((row, r) => assertEquals(row.some((value) => value !== 0), read.has(r)));
    for (const [path, leaf] of leavesOf(grads)) assert((await leaf.data()).some((value) => value !== 0), path);
  },
);

oracleTest("productKeyMemory() with batchNorm carries running statistics into inference", async () => {
  const layer = productKeyMemory({ ...SIZES, queryWidth: 6, norm: "batchNorm" });
  assertEquals([layer.causal, productKeyMemory(WITH_LAYER_NORM).causal], [false, true]);
  const params = layer.init(key(1));
  const hidden = tensor(randomSource(2).normals(40), { shape: [10, 4] });
  const { statistics, weights } = layer.lookUp(params, hidden, { train: true });
  assertEquals(layer.lookUp(params, hidden).statistics, null);
  const norm = params.query.norm as BatchNormParams;
  const advanced = advanceQueryStatistics(norm.running, statistics!, { momentum: 1 });
  const trained = { ...params, query: { ...params.query, norm: { ...norm, running: advanced } } };
  assertClose(
    await layer.lookUp(trained, hidden).weights.data(),
    await weights.data(),
    { relative: 1e-9, absolute: 1e-9 },
    "weights by running statistics",
  );
  const slow = await advanceQueryStatistics(norm.running, statistics!).variance.data();
  const batch = await statistics!.variance.data();
  slow.forEach((value, i) => assertAlmostEquals(value, 0.9 + 0.1 * batch[i]!, 1e-6));
  const grads = grad((p: ProductKeyMemoryParams) => sum(square(layer.apply(p, hidden, { train: true }))))(params);
  const { running } = grads.query.norm as BatchNormParams;
  assert([...await running.mean.data(), ...await running.variance.data()].every((value) => value === 0));
  assertThrows(() => advanceQueryStatistics(norm.running, statistics!, { momentum: 2 }), ConfigError, "momentum");
});

oracleTest("productKeyMemory() starts as published", async () => {
  const first = productKeyMemory({ width: 64, halfKeys: 16, heads: 2, k: 4, queryWidth: 32 }).init(key(0));
  assertAlmostEquals(await max(first.keys).item(), 1 / 4, 1e-2);
  assertAlmostEquals(await min(first.keys).item(), -1 / 4, 1e-2);
  assertAlmostEquals(await sqrt(variance(first.values)).item(), 1 / 8, 3e-3);
  const scaled = productKeyMemory({ width: 64, halfKeys: 16, heads: 2, k: 4, query: "hidden", layers: 8 }).init(key(0));
  assertAlmostEquals(await sqrt(variance(scaled.keys)).item(), 1 / 16, 3e-3);
  assertAlmostEquals(await sqrt(variance(scaled.values)).item(), 1 / 32, 1e-3);
});

oracleTest("productKeyMemory() keeps the type of the hidden states", async () => {
  const layer = productKeyMemory(WITH_LAYER_NORM);
  const output = layer.apply(layer.init(key(0)), cast(zeros([2, 4]), "bf16"));
  assertEquals([output.dtype, output.shape, (await output.data()).length], ["bf16", [2, 4], 8]);
});

Deno.test("productKeyMemory() tells all that is wrong with its options", () => {
  assertEquals(
    assertThrows(
      () =>
        productKeyMemory({
          width: 5,
          halfKeys: 8,
          query: "hidden",
          queryWidth: 4,
          score: "relu",
          normalization: "head",
        }),
      ConfigError,
    ).message,
    `Cannot build productKeyMemory: 4 options are invalid
  k              32      must be a whole number in 1..8 (halfKeys is 8)
  width          5       must be even where query is "hidden"
  queryWidth     4       must be left out where query is "hidden": it is the width
  normalization  "head"  must be left out where score is "relu"`,
  );
  assertThrows(() => productKeyMemory({ width: 4, halfKeys: 40, queryWidth: 7 }), ConfigError, "must be even");
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { width: 0, halfKeys: 0, heads: 0, k: 1.5, query: "x", norm: "batchnorm", score: 1, keys: 2 };
  assertEquals(
    assertThrows(() => productKeyMemory(wrong), ConfigError).message,
    `Cannot build productKeyMemory: 8 options are invalid
  width     0            must be a whole number from 1 up
  halfKeys  0            must be a whole number from 1 up
  heads     0            must be a whole number from 1 up
  k         1.5          must be a whole number from 1 up
  query     "x"          must be one of projected, hidden
  norm      "batchnorm"  must be one of layerNorm, batchNorm, none; did you mean batchNorm?
  score     1            must be one of softmax, relu
  keys      2            unknown option; the options are width, halfKeys, heads, k, query, queryWidth, norm, score, normalization, layers`,
  );
});
