import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, DTypeError, KeyReuseError, ShapeError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Key } from "../../src/core/key.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vmap } from "../../src/core/vmap.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import { bits, foldIn, key, keyData, keyFromData, split, splitBatch } from "../../src/ops/random.ts";
import { normal } from "../../src/ops/samplers.ts";
import { threefry } from "../../src/ops/threefry.ts";
import { type GoldenTensor, gpuTest, oracleTest, readGolden } from "../support/check_primitive.ts";

interface Fixture {
  readonly knownAnswers: readonly {
    readonly counter: readonly [number, number];
    readonly key: readonly [number, number];
    readonly answer: readonly [number, number];
  }[];
  readonly seeds: readonly { readonly seed: number; readonly key: readonly number[] }[];
  readonly splits: readonly { readonly key: readonly number[]; readonly keys: GoldenTensor }[];
  readonly folds: readonly {
    readonly key: readonly number[];
    readonly number: number;
    readonly folded: readonly number[];
  }[];
}

const golden = await readGolden<Fixture>("threefry.json");

function keyOf(words: readonly number[]): Key {
  return keyFromData(tensor(words, { dtype: "u32" }));
}

async function wordsOf(...keys: readonly Key[]): Promise<number[][]> {
  return (await read(keys.map(keyData))).map((words) => [...words]);
}

function onBoth(name: string, run: () => Promise<void>): void {
  oracleTest(name, run);
  gpuTest(name, run);
}

onBoth("threefry() gives Random123's published answers", async () => {
  for (const { counter, key: [k0, k1], answer } of golden.knownAnswers) {
    const inputs = [k0, k1, ...counter].map((word) => tensor([word], { dtype: "u32" })) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const found = await read([threefry(...inputs, 0), threefry(...inputs, 1), threefry(...inputs, "xor")] as const);
    assertEquals(found.map(([word]) => word), [...answer, (answer[0] ^ answer[1]) >>> 0]);
  }
});

onBoth("key() gives JAX's keys", async () => {
  for (const { seed, key: words } of golden.seeds) assertEquals(await wordsOf(key(seed)), [[...words]]);
});

onBoth("split() gives JAX's keys", async () => {
  for (const { key: words, keys } of golden.splits) {
    // A split by a shape numbers its keys in row-major order.
    const count = keys.data.length / 2;
    const expected = Array.from({ length: count }, (_, i) => keys.data.slice(2 * i, 2 * i + 2));
    assertEquals(await wordsOf(...split(keyOf(words), count)), expected);
    const [batch] = await wordsOf(splitBatch(keyOf(words), count));
    assertEquals(batch, [...keys.data]);
  }
});

onBoth("foldIn() gives JAX's keys, from a number or a tensor", async () => {
  for (const { key: words, number, folded } of golden.folds) {
    const parent = keyOf(words);
    const expected = [[...folded], [...folded]];
    assertEquals(await wordsOf(foldIn(parent, number), foldIn(parent, tensor(number, { dtype: "u32" }))), expected);
  }
});

onBoth("a key draws the same bits under jit as without", async () => {
  const seeded = key(42);
  const [child] = split(seeded);
  const step = jit((from: Key) => bits(split(from)[0], [3, 5]));
  assertEquals(await step(seeded).data(), await bits(child, [3, 5]).data());
});

onBoth("a jitted function returns keys, and takes the number to fold in as a tensor", async () => {
  const step = jit((from: Key, count: Tensor) => ({ next: foldIn(from, count) }));
  const { next } = step(key(1), tensor(7, { dtype: "u32" }));
  assertEquals(await wordsOf(next), await wordsOf(foldIn(key(1), 7)));
  assertEquals(step.traces, 1);
});

onBoth("vmap over a batch of keys draws for each key what it draws alone", async () => {
  const together = vmap((each: Key) => bits(each, [2, 3]))(splitBatch(key(5), 4));
  const apart = split(key(5), 4).map((each) => bits(each, [2, 3]));
  const found = await read({ together, apart });
  assertEquals([...found.together], found.apart.flatMap((data) => [...data]));
});

Deno.test("split() of a small written-out count is a tuple", () => {
  const [a, b, c]: [Key, Key, Key] = split(key(0), 3);
  assertEquals([a, b, c].map((each) => keyData(each).shape), [[2], [2], [2]]);
});

oracleTest("a key consumed twice in one traced function is refused, naming both consumers", () => {
  const twice = jit(function draw(from: Key) {
    return [normal(from, [2]), bits(from, [2])];
  });
  const error = assertThrows(() => twice(key(0)), KeyReuseError);
  assertEquals(error.message.split("\n")[0], "Cannot use a key twice in jitted draw: both draws would be the same");
  assertEquals(/first +normal, .*\n +second +bits, /.test(error.message), true, error.message);
});

Deno.test("keys refuse what is not a seed, not a key, or a batch of keys", () => {
  assertThrows(() => key(0.5), ConfigError, "whole number");
  assertThrows(() => key(2 ** 32), ConfigError, "whole number");
  assertThrows(() => foldIn(key(0), 1.5), ConfigError, "whole number");
  assertThrows(() => foldIn(key(0), tensor(1.5)), DTypeError, "foldIn");
  assertThrows(() => keyFromData(zeros([3], { dtype: "u32" })), ShapeError, "two words");
  assertThrows(() => bits(splitBatch(key(0), 3), [2]), ShapeError, "batch of keys");
  assertThrows(() => split(key(0), -1), ShapeError);
});
