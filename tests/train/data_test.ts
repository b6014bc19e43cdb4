import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DataError } from "../../src/core/errors.ts";
import { expectLongEnough, loadCorpus, splitDocuments, splitText } from "../../src/train/data.ts";

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(part: Uint8Array): string {
  return new TextDecoder().decode(part);
}

async function withFile(content: Uint8Array, use: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, content);
    await use(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("loadCorpus() holds out whole State of the Union documents", async () => {
  const corpus = await loadCorpus("sotu");
  assertEquals(corpus.split, "12 of 233 documents held out whole");
  assertEquals([corpus.train.length, corpus.heldOut.length], [10271121, 490294]);
  assert(textOf(corpus.train).startsWith("Fellow-Citizens of the Senate and House of Representatives"));
  assertEquals(corpus.heldOut.at(-1), 10);
});

Deno.test("splitDocuments() holds out every twentieth from the eleventh, each ending in one newline", () => {
  const documents = Array.from({ length: 33 }, (_, i) => `text ${i}${i % 2 === 0 ? "\n\n" : ""}`);
  const { train, heldOut } = splitDocuments("texts", documents);
  assertEquals(textOf(heldOut), "text 10\ntext 30\n");
  assertEquals(textOf(train).split("\n").length, 31 + 1);
});

Deno.test("splitText() holds out the end from a paragraph where one begins near there", () => {
  const { train, heldOut } = splitText("f", bytes(`${"x".repeat(930)}\n\n${"line\n".repeat(14)}`));
  assertEquals([train.length, textOf(heldOut)], [932, "line\n".repeat(14)]);
});

Deno.test("splitText() falls back to a line, then to a whole character", () => {
  assertEquals(textOf(splitText("f", bytes(`${"x".repeat(899)}\n${"y".repeat(100)}`)).heldOut), "y".repeat(100));
  const accents = splitText("f", bytes("é".repeat(501)));
  assertEquals(accents.train.length % 2, 0);
  assertEquals(accents.train.length + accents.heldOut.length, 1002);
});

Deno.test("splitText() loses no byte of texts of any length", () => {
  for (let length = 1; length < 50; length++) {
    const { train, heldOut } = splitText("f", new Uint8Array(length).fill(120));
    assertEquals(train.length + heldOut.length, length);
  }
});

Deno.test("loadCorpus() says that a file is missing", async () => {
  const error = await assertRejects(() => loadCorpus("/nowhere/notes.txt"), DataError);
  assertEquals(
    error.message,
    "Cannot read the data file /nowhere/notes.txt: no such file\n" +
      "Fix: --data takes the path of a file with text, or sotu",
  );
});

Deno.test("loadCorpus() says that a path is a folder", async () => {
  const folder = await Deno.makeTempDir();
  const error = await assertRejects(() => loadCorpus(folder), DataError);
  await Deno.remove(folder);
  assertEquals(error.message.split("\n")[0], `Cannot read the data file ${folder}: it is a folder`);
});

Deno.test("loadCorpus() says that a file is empty", async () => {
  await withFile(new Uint8Array(0), async (path) => {
    const error = await assertRejects(() => loadCorpus(path), DataError);
    assertEquals([error.code, error.message.split("\n")[0]], [
      "data/empty",
      `Cannot train on ${path}: the file is empty`,
    ]);
  });
});

Deno.test("expectLongEnough() says how long a file should be", () => {
  const corpus = splitText("notes.txt", new Uint8Array(1000).fill(120));
  expectLongEnough(corpus, 49);
  const error = assertThrows(() => expectLongEnough(corpus, 128), DataError);
  assertEquals(
    error.message,
    "Cannot train on notes.txt: 1000 bytes are too few\n" +
      "  to train on  950 bytes, at least 129 needed\n" +
      "  held out     50 bytes, at least 129 needed\n" +
      "  window       129 bytes (seq is 128)\n" +
      "Fix: pass a file of about 2580 bytes or more, or a smaller --seq",
  );
});
