import { assertEquals, assertRejects } from "@std/assert";
import { CheckpointError } from "../../src/core/errors.ts";
import { openMetrics, readMetrics } from "../../src/train/metrics.ts";

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function write(folder: string, afterStep: number, steps: readonly number[]): Promise<void> {
  await using metrics = await openMetrics(folder, { afterStep });
  for (const step of steps) await metrics.append({ step, trainBitsPerByte: step / 2 });
}

Deno.test("readMetrics() returns what openMetrics() wrote, NaN included", async () => {
  await inFolder(async (folder) => {
    {
      await using metrics = await openMetrics(folder, { afterStep: 0 });
      await metrics.append({ step: 10, trainBitsPerByte: 2.5, load: [[0.25, 0.75]] });
      await metrics.append({ step: 20, validationBitsPerByte: NaN });
    }
    assertEquals(await readMetrics(folder), [
      { step: 10, trainBitsPerByte: 2.5, load: [[0.25, 0.75]] },
      { step: 20, validationBitsPerByte: NaN },
    ]);
  });
});

Deno.test("readMetrics() has no rows where there is no file", async () => {
  await inFolder(async (folder) => assertEquals(await readMetrics(folder), []));
});

Deno.test("readMetrics() leaves out a torn last line, wherever it was torn", async () => {
  await inFolder(async (folder) => {
    await write(folder, 0, [1, 2]);
    const whole = await Deno.readFile(`${folder}/metrics.jsonl`);
    for (let length = whole.length - 1; length > whole.length / 2; length--) {
      await Deno.writeFile(`${folder}/metrics.jsonl`, whole.subarray(0, length));
      assertEquals((await readMetrics(folder)).map(({ step }) => step), [1]);
    }
  });
});

Deno.test("openMetrics() drops rows after the resumed step and a torn line", async () => {
  await inFolder(async (folder) => {
    await write(folder, 0, [10, 20, 30]);
    await Deno.writeTextFile(`${folder}/metrics.jsonl`, '{"step":40,"tr', { append: true });
    await write(folder, 20, [25, 30]);
    assertEquals((await readMetrics(folder)).map(({ step }) => step), [10, 20, 25, 30]);
  });
});

Deno.test("openMetrics() starts anew after step 0", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/metrics.jsonl`, "of another program\n");
    await write(folder, 0, [1]);
    assertEquals((await readMetrics(folder)).map(({ step }) => step), [1]);
  });
});

Deno.test("readMetrics() names a damaged line", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/metrics.jsonl`, '{"step":1}\n{"step":-2}\n{"step":3}\n');
    const error = await assertRejects(() => readMetrics(folder), CheckpointError);
    const [first, line] = error.message.split("\n");
    assertEquals(first, `Cannot read ${folder}/metrics.jsonl: line 2 is not a row of metrics`);
    assertEquals(line, '  line     {"step":-2}');
  });
});
