import { assert, assertEquals } from "@std/assert";
import { gzipBitsPerByte, orderThreeBitsPerByte } from "../../src/train/baselines.ts";
import { loadCorpus } from "../../src/train/data.ts";

Deno.test("gzipBitsPerByte() counts the bits of gzip -9", async () => {
  const { heldOut } = await loadCorpus("sotu");
  assertEquals(gzipBitsPerByte(heldOut).toFixed(2), "2.71");
});

Deno.test("orderThreeBitsPerByte() is 8 bits where nothing was counted", () => {
  assertEquals(orderThreeBitsPerByte(new Uint8Array(0), new Uint8Array([1, 2, 3])), 8);
});

Deno.test("orderThreeBitsPerByte() assigns probabilities that sum to 1", () => {
  const train = new TextEncoder().encode("abracadabra, abracadabra");
  // The bits of the last byte alone are the difference that it makes.
  const bitsOf = (prefix: number[], last: number): number => {
    const text = new Uint8Array([...prefix, last]);
    const before = prefix.length === 0 ? 0 : orderThreeBitsPerByte(train, new Uint8Array(prefix)) * prefix.length;
    return orderThreeBitsPerByte(train, text) * text.length - before;
  };
  for (const prefix of ["", "a", "abr", "xyz", "dab"]) {
    const context = [...new TextEncoder().encode(prefix)];
    let sum = 0;
    for (let byte = 0; byte < 256; byte++) sum += 2 ** -bitsOf(context, byte);
    assert(Math.abs(sum - 1) < 1e-9, `after ${prefix}: ${sum}`);
  }
});

Deno.test("orderThreeBitsPerByte() predicts what it has counted", () => {
  const text = new TextEncoder().encode("the quick brown fox jumps over the lazy dog. ".repeat(200));
  assert(orderThreeBitsPerByte(text, text) < 0.4);
});
