import { assertEquals, assertRejects } from "@std/assert";
import { chooseOnHost, slotsOf } from "../host_gate.ts";
import { PeerError, startPeer } from "./process.ts";
import { readArrays, readLines, readOutputs, writeArrays, writeOutputs } from "./protocol.ts";
import { floats, integers } from "./task.ts";

Deno.test("readLines() puts together lines that arrive in pieces, and drops what has no end", async () => {
  const parts = ["a", "b\nc", "\n\nd"].map((text) => new TextEncoder().encode(text));
  const lines: string[] = [];
  for await (const line of readLines(ReadableStream.from(parts))) lines.push(line);
  assertEquals(lines, ["ab", "c", ""]);
});

Deno.test("arrays and results survive the way through files", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const arrays = { x: floats([2, 2], [1, 2.5, -3, 0]), ids: integers([3], [0, 7, -1]) };
    assertEquals(await readArrays(folder, await writeArrays(folder, arrays)), arrays);
    const outputs = { y: Float32Array.of(1, NaN), empty: new Float32Array(0) };
    await writeOutputs(folder, outputs);
    assertEquals(await readOutputs(folder), outputs);
    // The next task must not find results of the last one.
    await writeOutputs(folder, { z: Float32Array.of(2) });
    assertEquals(await readOutputs(folder), { z: Float32Array.of(2) });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("startPeer() reports what went wrong in the other process", async () => {
  await assertRejects(() => startPeer("no library", "webgpu"), PeerError, "TypeError");
});

Deno.test("slotsOf() gives every assignment a slot of its expert, and none twice", () => {
  const sizes = { tokens: 5, width: 1, experts: 3, k: 2 };
  // Logits of the tokens: the expert's number times the hidden value.
  const chosen = chooseOnHost([1, -1, 2, 3, -2], [0, 1, 2], sizes);
  assertEquals([...chosen.indices], [2, 1, 0, 1, 2, 1, 2, 1, 0, 1]);
  const { slotToken, assignmentSlot, oneHotChoices } = slotsOf(chosen, sizes);
  // The fullest expert has five rows.
  assertEquals(slotToken.length, 15);
  assertEquals(new Set(assignmentSlot).size, 10);
  for (const [assignment, slot] of assignmentSlot.entries()) {
    assertEquals(slotToken[slot], assignment >> 1);
    assertEquals(Math.floor(slot / 5), chosen.indices[assignment]);
    assertEquals(oneHotChoices[assignment * 3 + chosen.indices[assignment]!], 1);
  }
  assertEquals(oneHotChoices.reduce((sum, value) => sum + value, 0), 10);
});
