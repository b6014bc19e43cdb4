import { assert, assertEquals, assertRejects } from "@std/assert";
import { CheckpointError } from "../../src/core/errors.ts";
import { hasCheckpoints, readCheckpoint, writeCheckpoint } from "../../src/train/checkpoint.ts";

const KILLS = 30;

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function filesOf(step: number): ReadonlyMap<string, Uint8Array> {
  return new Map([
    ["model.safetensors", new Uint8Array(7).fill(step)],
    ["state.json", new TextEncoder().encode(String(step))],
  ]);
}

async function writeSteps(folder: string, steps: readonly number[]): Promise<void> {
  for (const step of steps) await writeCheckpoint(folder, { step, files: filesOf(step) });
}

function checkpointsIn(folder: string): string[] {
  return [...Deno.readDirSync(`${folder}/checkpoints`)].map(({ name }) => name).sort();
}

Deno.test("readCheckpoint() returns what writeCheckpoint() wrote", async () => {
  await inFolder(async (folder) => {
    assertEquals(await hasCheckpoints(`${folder}/run`), false);
    const path = await writeCheckpoint(`${folder}/run`, { step: 120, files: filesOf(3) });
    assertEquals(path, `${folder}/run/checkpoints/step-00000120`);
    assertEquals(await readCheckpoint(`${folder}/run`), { step: 120, files: filesOf(3), path });
    assertEquals(await hasCheckpoints(`${folder}/run`), true);
  });
});

Deno.test("writeCheckpoint() keeps the last two and links the newest model into the run's folder", async () => {
  await inFolder(async (folder) => {
    await writeSteps(folder, [5, 10, 100]);
    assertEquals(checkpointsIn(folder), ["step-00000010", "step-00000100"]);
    assertEquals(await Deno.readFile(`${folder}/model.safetensors`), new Uint8Array(7).fill(100));
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), ["checkpoints", "model.safetensors"]);
  });
});

Deno.test("writeCheckpoint() writes a step again without touching the first until the second is whole", async () => {
  await inFolder(async (folder) => {
    await writeSteps(folder, [5, 6, 6]);
    assertEquals(checkpointsIn(folder), ["step-00000005", "step-00000006.1"]);
    await writeSteps(folder, [6]);
    assertEquals((await readCheckpoint(folder)).step, 6);
  });
});

Deno.test("writeCheckpoint() removes later steps of an abandoned future, and what killed writers left", async () => {
  await inFolder(async (folder) => {
    await writeSteps(folder, [10, 20]);
    await Deno.mkdir(`${folder}/checkpoints/.unfinished-step-00000030`);
    await Deno.writeTextFile(`${folder}/checkpoints/.unfinished-step-00000030/model.safetensors`, "part");
    await writeSteps(folder, [15]);
    assertEquals(checkpointsIn(folder), ["step-00000010", "step-00000015"]);
  });
});

const DAMAGES: readonly (readonly [what: string, damage: (path: string) => Promise<void>])[] = [
  ["a file cut short", (path) => Deno.truncate(`${path}/model.safetensors`, 6)],
  ["a flipped byte", (path) => Deno.writeFile(`${path}/model.safetensors`, new Uint8Array(7))],
  ["a missing file", (path) => Deno.remove(`${path}/state.json`)],
  ["a missing manifest", (path) => Deno.remove(`${path}/manifest.json`)],
  ["a manifest cut short", (path) => Deno.truncate(`${path}/manifest.json`, 20)],
  ["a manifest of something else", (path) => Deno.writeTextFile(`${path}/manifest.json`, '{"format":2}')],
];

for (const [what, damage] of DAMAGES) {
  Deno.test(`readCheckpoint() falls back to the previous checkpoint after ${what}`, async () => {
    await inFolder(async (folder) => {
      await writeSteps(folder, [1, 2]);
      await damage(`${folder}/checkpoints/step-00000002`);
      const { step, files } = await readCheckpoint(folder);
      assertEquals([step, files], [1, filesOf(1)]);
      await writeSteps(folder, [2]);
      assertEquals((await readCheckpoint(folder)).step, 2);
    });
  });
}

Deno.test("readCheckpoint() says that there is none, or that none is whole", async () => {
  await inFolder(async (folder) => {
    const missing = await assertRejects(() => readCheckpoint(folder), CheckpointError);
    assertEquals(
      missing.message,
      `Cannot use ${folder} as a run: it has no checkpoint\n` +
        `  looked in  ${folder}/checkpoints\n` +
        "Fix: pass the folder that an earlier run wrote with --out, after its first checkpoint",
    );
    await writeSteps(folder, [1, 2]);
    await Deno.truncate(`${folder}/checkpoints/step-00000001/state.json`, 0);
    await Deno.remove(`${folder}/checkpoints/step-00000002/manifest.json`);
    const damaged = await assertRejects(() => readCheckpoint(folder), CheckpointError);
    assertEquals(
      damaged.message,
      `Cannot use ${folder} as a run: all 2 checkpoints are damaged\n` +
        "  step-00000002  manifest.json: no such file\n" +
        "  step-00000001  state.json has 0 bytes, 1 were written\n" +
        "Fix: restore the folder from a copy, or start a new run",
    );
  });
});

Deno.test("writeCheckpoint() rejects names that lead out of the folder", async () => {
  for (const name of ["../model", "a/b", "", ".hidden", "manifest.json"]) {
    await assertRejects(
      () => writeCheckpoint("/nowhere", { step: 1, files: new Map([[name, new Uint8Array(1)]]) }),
      CheckpointError,
    );
  }
});

Deno.test("writeCheckpoint() leaves a whole checkpoint wherever SIGKILL strikes", async () => {
  await inFolder(async (folder) => {
    let durable = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const acknowledged = await writeUntilKilled(folder, durable + 1, { delayMs: (kill * 7919) % 61 / 2 });
      durable = Math.max(durable, acknowledged);
      const { step, files, path } = await readCheckpoint(folder);
      // No fallback was needed: what has a checkpoint's name is whole.
      assertEquals(path.split("/").at(-1), checkpointsIn(folder).filter((name) => name.startsWith("step-")).at(-1));
      assert(step >= durable, `step ${durable} was acknowledged, ${step} was found`);
      for (const [name, size] of [["model.safetensors", 70_001], ["optimizer.safetensors", 140_003]] as const) {
        assertEquals(files.get(name), new Uint8Array(size).fill(step % 251));
        // The link may lag behind, but never shows a part of a file.
        const linked = await Deno.readFile(`${folder}/${name}`);
        assertEquals(linked, new Uint8Array(size).fill(linked[0]!));
      }
      assertEquals(JSON.parse(new TextDecoder().decode(files.get("state.json"))), { step });
      durable = step;
    }
  });
});

/** Runs the writer, kills it some time after its second checkpoint, and returns the last step that it acknowledged. */
async function writeUntilKilled(folder: string, first: number, options: { readonly delayMs: number }): Promise<number> {
  const writer = new URL("./support/checkpoint_writer.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--config", configPath(), ...importMap(), writer, folder, String(first)],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let printed = "";
  let killed = false;
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    printed += chunk;
    if (killed || printed.split("\n").length < 3) continue;
    killed = true;
    setTimeout(() => child.kill("SIGKILL"), options.delayMs);
  }
  const { signal } = await child.status;
  assertEquals(signal, "SIGKILL", printed);
  // What follows the last newline may be a torn number.
  return Number(printed.split("\n").slice(0, -1).at(-1));
}

function configPath(): string {
  return new URL("../../deno.json", import.meta.url).pathname;
}

/** The writer needs zod only, from npm, so the stand-in map always serves. */
function importMap(): readonly string[] {
  return [`--import-map=${new URL("../../tools/npm_std/import_map.json", import.meta.url).pathname}`];
}
