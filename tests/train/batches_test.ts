import { assert, assertEquals } from "@std/assert";
import { trainingBatch, validationBatches } from "../../src/train/batches.ts";

const TEXT = Uint8Array.from({ length: 251 }, (_, i) => i);

Deno.test("trainingBatch() depends on seed and step alone", () => {
  const options = { seed: 7, step: 12, batch: 3, seq: 5 };
  const first = trainingBatch(TEXT, options);
  trainingBatch(TEXT, { ...options, step: 13 });
  assertEquals(trainingBatch(TEXT, options), first);
  assert(String(trainingBatch(TEXT, { ...options, step: 13 }).tokens) !== String(first.tokens));
  assert(String(trainingBatch(TEXT, { ...options, seed: 8 }).tokens) !== String(first.tokens));
});

Deno.test("trainingBatch() is the same on every machine and in every version", () => {
  const { tokens, rows, length } = trainingBatch(TEXT, { seed: 7, step: 12, batch: 3, seq: 2 });
  assertEquals([rows, length], [3, 3]);
  assertEquals([...tokens], [84, 85, 86, 119, 120, 121, 199, 200, 201]);
});

Deno.test("trainingBatch() cuts contiguous windows and reaches every start", () => {
  const starts = new Set<number>();
  for (let step = 0; step < 400; step++) {
    const { tokens } = trainingBatch(TEXT.subarray(0, 13), { seed: 1, step, batch: 2, seq: 4 });
    for (const row of [0, 5]) {
      starts.add(tokens[row]!);
      for (let i = 1; i < 5; i++) assertEquals(tokens[row + i], tokens[row]! + i);
    }
  }
  assertEquals([...starts].sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("trainingBatch() takes a text of exactly one window", () => {
  assertEquals([...trainingBatch(TEXT.subarray(0, 4), { seed: 0, step: 0, batch: 1, seq: 3 }).tokens], [0, 1, 2, 3]);
});

Deno.test("validationBatches() predicts no byte twice and gives all batches one shape", () => {
  const batches = validationBatches(TEXT, { seq: 12, batch: 3, maxBatches: 100 });
  assertEquals(batches.map(({ rows, length }) => `${rows}x${length}`), Array(6).fill("3x13"));
  const predicted = batches.flatMap(({ tokens }) => [...tokens].filter((_, i) => i % 13 !== 0));
  assertEquals(new Set(predicted).size, predicted.length);
});

Deno.test("validationBatches() spreads a capped number over the whole text", () => {
  const [batch, ...rest] = validationBatches(TEXT, { seq: 10, batch: 5, maxBatches: 1 });
  assertEquals(rest.length, 0);
  assertEquals([0, 11, 22, 33, 44].map((i) => batch!.tokens[i]), [0, 50, 100, 150, 200]);
});

Deno.test("validationBatches() gives one smaller batch where the text is short", () => {
  const batches = validationBatches(TEXT.subarray(0, 21), { seq: 10, batch: 16, maxBatches: 4 });
  assertEquals(batches.map(({ rows }) => rows), [2]);
});
