import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Key } from "../../src/core/key.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vmap } from "../../src/core/vmap.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { bits, key, keyFromData, splitBatch } from "../../src/ops/random.ts";
import {
  bernoulli,
  categorical,
  gumbel,
  normal,
  permutation,
  randomInt,
  truncatedNormal,
  uniform,
} from "../../src/ops/samplers.ts";
import {
  assertClose,
  EXACT,
  fromGolden,
  type GoldenTensor,
  gpuTest,
  oracleTest,
  readGolden,
} from "../support/check_primitive.ts";

interface Sample {
  readonly function: string;
  readonly key: readonly number[];
  readonly call: string;
  readonly shape?: readonly number[];
  readonly minval?: number;
  readonly maxval?: number;
  readonly lower?: number;
  readonly upper?: number;
  readonly p?: number;
  readonly mode?: string;
  readonly count?: number;
  readonly logits?: GoldenTensor;
  readonly output: GoldenTensor;
}

const { samples } = await readGolden<{ readonly samples: readonly Sample[] }>("threefry.json");

function draw(sample: Sample): Tensor {
  const from = keyFromData(tensor(sample.key, { dtype: "u32" }));
  const { shape = [], minval: min, maxval: max, logits } = sample;
  switch (sample.function) {
    case "bits":
      return bits(from, shape);
    case "uniform":
      return uniform(from, shape, min === undefined ? {} : { min, max: max! });
    case "normal":
      return normal(from, shape);
    case "truncatedNormal":
      return truncatedNormal(from, shape, { low: sample.lower!, high: sample.upper! });
    case "bernoulli":
      return bernoulli(from, shape, { probability: sample.p! });
    case "gumbel":
      return gumbel(from, shape);
    case "randint":
      return randomInt(from, shape, { min: min!, max: max! });
    case "permutation":
      return permutation(from, sample.count!);
    case "categorical": {
      const sampleShape = shape.slice(0, Math.max(0, shape.length - (logits!.shape.length - 1)));
      return categorical(from, fromGolden(logits!), { sampleShape });
    }
  }
  throw new Error(`unreachable: no sampler for ${sample.function}`);
}

/** Unscaled uniforms are exact; past log, erfInv and the fused multiply-add of a range, JAX rounds differently. */
function isExact({ function: name, minval, output }: Sample): boolean {
  return output.dtype !== "f32" || (name === "uniform" && minval === undefined);
}

// Mode "high" is a variant of gumbel that needs two draws for each number; there is one gumbel here.
const ours = samples.filter(({ mode }) => mode !== "high");

async function checkSamples(): Promise<void> {
  const drawn = ours.map(draw);
  const found = await read(drawn);
  ours.forEach((sample, i) => {
    const label = `${sample.call} with key ${sample.key} and shape ${sample.shape}`;
    assertEquals(drawn[i]!.shape, sample.output.shape, label);
    const tolerance = isExact(sample) ? EXACT : { relative: 1e-6, absolute: 1e-6 };
    const { dtype, data } = sample.output;
    // The file prints f32 numbers as short as they can be.
    assertClose(found[i]!, dtype === "f32" ? data.map(Math.fround) : data, tolerance, label);
  });
}

oracleTest("every sampler draws JAX's numbers", checkSamples);
gpuTest("every sampler draws JAX's numbers", checkSamples);

function everything(from: Key): readonly Tensor[] {
  const keys = splitBatch(from, 3);
  return [
    vmap((each: Key) => normal(each, [4]))(keys),
    vmap((each: Key) => permutation(each, 5))(keys),
    vmap((each: Key) => categorical(each, tensor([0, 1, 2]), { sampleShape: [2] }))(keys),
    vmap((each: Key) => randomInt(each, [3], { max: 100 }))(keys),
  ];
}

async function checkTransforms(): Promise<void> {
  const eager = await read([...everything(key(3))]);
  const compiled = await read([...jit(everything)(key(3))]);
  eager.forEach((data, i) => assertClose(compiled[i]!, data, { relative: 1e-6, absolute: 1e-6 }, `sampler ${i}`));
}

oracleTest("samplers work on batches of keys under jit", checkTransforms);
gpuTest("samplers work on batches of keys under jit", checkTransforms);

oracleTest("permutation() of a tensor reorders its rows by the permutation of their number", async () => {
  const rows = tensor([[0, 10], [1, 11], [2, 12], [3, 13], [4, 14]]);
  const [order, shuffled] = await read([permutation(key(9), 5), permutation(key(9), rows)] as const);
  assertEquals([...shuffled], [...order].flatMap((row) => [row, row + 10]));
  assertEquals([...order].sort(), [0, 1, 2, 3, 4]);
});

oracleTest("permutation() takes no numbers and one", async () => {
  assertEquals([...await permutation(key(0), 0).data()], []);
  assertEquals([...await permutation(key(0), 1).data()], [0]);
});

oracleTest("randomInt() covers all of u32 and negative ranges", async () => {
  const drawn = {
    wide: randomInt(key(0), [200], { max: 2 ** 32 - 1, dtype: "u32" }),
    low: randomInt(key(1), [200], { min: -7, max: -4 }),
  };
  const { wide, low } = await read(drawn);
  assertEquals([...wide].some((value) => value > 2 ** 31), true);
  assertEquals([...new Set(low)].sort(), [-5, -6, -7]);
});

oracleTest("bernoulli() takes probabilities that broadcast", async () => {
  const drawn = bernoulli(key(0), [3, 2], { probability: tensor([0, 1]) });
  assertEquals([...await drawn.data()], [0, 1, 0, 1, 0, 1]);
});

oracleTest("categorical() takes any axis", async () => {
  const logits = tensor([[0, -Infinity], [-Infinity, 0]]);
  const found = await read({
    rows: categorical(key(0), logits, { axis: 0 }),
    more: categorical(key(0), logits, { sampleShape: [2] }),
  });
  assertEquals([[...found.rows], [...found.more]], [[0, 1], [0, 1, 0, 1]]);
});

Deno.test("samplers draw half precision and refuse integers", () => {
  assertEquals(normal(key(0), [2], { dtype: "bf16" }).dtype, "bf16");
  assertThrows(() => uniform(key(0), [2], { dtype: "i32" }), DTypeError, "randomInt");
  assertThrows(() => categorical(key(0), zeros([2], { dtype: "u32" })), DTypeError, "categorical");
});

Deno.test("samplers name invalid options", () => {
  assertThrows(() => uniform(key(0), [2], { min: 1 }), ConfigError, "min");
  assertThrows(() => truncatedNormal(key(0), [2], { low: 3 }), ConfigError, "low");
  assertThrows(() => bernoulli(key(0), [2], { probability: 1.5 }), ConfigError, "probability");
  assertThrows(() => randomInt(key(0), [2], { max: 0 }), ConfigError, "above min");
  assertThrows(() => randomInt(key(0), [2], { min: -1, max: 5, dtype: "u32" }), ConfigError, "whole number of u32");
});
