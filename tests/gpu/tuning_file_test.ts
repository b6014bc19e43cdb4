import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import manifest from "../../deno.json" with { type: "json" };
import {
  formatTuning,
  NEVER,
  parseTuning,
  readTuning,
  type StoredTuning,
  tuningPath,
  writeTuning,
} from "../../src/gpu/tuning_file.ts";
import { tuningFileName, tuningFolder, type TuningKey, tuningKey } from "../../src/gpu/tuning_key.ts";

const KEY: TuningKey = {
  format: 1,
  adapter: "Some GPU (rev. 2)",
  driver: "4318 | ampere | 9000 | 550.1",
  processors: 4,
  platform: "linux x86_64",
  runtime: "Deno 2.9.6",
  library: "0.1.0",
};

const STORED: StoredTuning = {
  date: "2026-01-02T03:04:05.678Z",
  tuning: {
    textureWork: 2 ** 20,
    expertTextureWork: NEVER,
    textureTiles: { small: { rows: 8, columns: 1, lanesN: 8 }, large: { rows: 16, columns: 4, lanesN: 2 } },
    bufferTiles: { transposed: { rows: 4, columns: 2, lanesN: 1 } },
    sharedTiles: { medium: "64x128" },
  },
};

async function inFolder(run: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("tuningKey() holds adapter, driver, processors, platform, Deno and the library's version", () => {
  const info = { vendor: "4318", architecture: "ampere", device: "9000", description: "550.1" } as GPUAdapterInfo;
  assertEquals(tuningKey("Some GPU", info), {
    format: 1,
    adapter: "Some GPU",
    driver: "4318 | ampere | 9000 | 550.1",
    processors: navigator.hardwareConcurrency,
    platform: `${Deno.build.os} ${Deno.build.arch}`,
    runtime: `Deno ${Deno.version.deno}`,
    library: manifest.version,
  });
});

Deno.test("tuningFileName() is readable and differs where any part of the key does", () => {
  assertMatch(tuningFileName(KEY), /^some-gpu-rev-2-[0-9a-f]{8}\.json$/);
  assertMatch(tuningFileName({ ...KEY, adapter: "§" }), /^adapter-[0-9a-f]{8}\.json$/);
  const others = (Object.keys(KEY) as (keyof TuningKey)[]).map((name) => ({
    ...KEY,
    [name]: typeof KEY[name] === "number" ? KEY[name] + 1 : `${KEY[name]}.`,
  }));
  assertEquals(new Set([KEY, ...others].map(tuningFileName)).size, 8);
});

Deno.test("tuningFolder() follows the option, then the variable, then the system's custom", () => {
  const folder = (os: string, variables: Record<string, string>, wanted?: string | boolean) =>
    tuningFolder(wanted, (name) => variables[name] ?? null, os);
  const all = { HOME: "/me", XDG_CACHE_HOME: "/caches", LOCALAPPDATA: "C:\\Local" };
  assertEquals(folder("linux", all), "/caches/switchyard");
  assertEquals(folder("linux", { HOME: "/me" }), "/me/.cache/switchyard");
  assertEquals(folder("darwin", all), "/me/Library/Caches/switchyard");
  assertEquals(folder("windows", all), "C:\\Local/switchyard");
  assertEquals(folder("linux", {}), null);
  assertEquals(folder("linux", { ...all, SWITCHYARD_CALIBRATION: "/mine" }, true), "/mine");
  assertEquals(folder("linux", { ...all, SWITCHYARD_CALIBRATION: "off" }), null);
  assertEquals(folder("linux", { ...all, SWITCHYARD_CALIBRATION: "off" }, "/own"), "/own");
  assertEquals(folder("linux", all, false), null);
});

Deno.test("choices come back from a file as they were, and writing replaces the file", () =>
  inFolder(async (folder) => {
    const nested = `${folder}/not/there/yet`;
    assertEquals(readTuning(nested, KEY), null);
    assertEquals(await writeTuning(nested, KEY, { ...STORED, tuning: {} }), tuningPath(nested, KEY));
    await writeTuning(nested, KEY, STORED);
    assertEquals(readTuning(nested, KEY), STORED);
    assertEquals([...Deno.readDirSync(nested)].map(({ name }) => name), [tuningFileName(KEY)]);
  }));

Deno.test("a file cut off anywhere is ignored", () => {
  const text = formatTuning(KEY, STORED).trimEnd();
  assertEquals(parseTuning(text, KEY), STORED);
  for (let length = 0; length < text.length; length++) assertEquals(parseTuning(text.slice(0, length), KEY), null);
});

Deno.test("files for something else, of another shape or out of range are ignored", () => {
  const parsed = (content: unknown) => parseTuning(JSON.stringify(content), KEY);
  const { date, tuning } = STORED;
  assertEquals(parsed({ key: KEY, date, tuning }), STORED);
  for (const name of Object.keys(KEY) as (keyof TuningKey)[]) {
    const { [name]: _, ...rest } = KEY;
    assertEquals(parsed({ key: { ...KEY, [name]: "other" }, date, tuning }), null, name);
    assertEquals(parsed({ key: rest, date, tuning }), null, name);
  }
  const foreign = [null, 1, "text", [], {}, { date, tuning }, { key: KEY, tuning }, { key: KEY, date }];
  for (const content of foreign) assertEquals(parsed(content), null, JSON.stringify(content));
  assertEquals(parsed({ key: KEY, date: "yesterday", tuning }), null);
  assertEquals(parsed({ key: KEY, date, tuning, more: 1 }), null);
  const tile = { rows: 8, columns: 2, lanesN: 4 };
  const wrong: unknown[] = [
    null,
    [],
    { unheardOf: 1 },
    { textureWork: 0 },
    { textureWork: -1 },
    { textureWork: "4194304" },
    { textureWork: null },
    { expertTextureWork: 1.5 },
    { textureTiles: [] },
    { textureTiles: { huge: tile } },
    { textureTiles: { small: { ...tile, rows: 6 } } },
    { textureTiles: { small: { ...tile, rows: 1024 } } },
    { textureTiles: { small: { ...tile, lanesN: 3 } } },
    { textureTiles: { small: { rows: 8, columns: 2 } } },
    { bufferTiles: { plain: { ...tile, columns: 0 } } },
    { bufferTiles: { plain: null } },
    { sharedTiles: { large: "16x64" } },
    { sharedTiles: "64x64" },
  ];
  for (const each of wrong) assertEquals(parsed({ key: KEY, date, tuning: each }), null, JSON.stringify(each));
});

Deno.test("a folder in the file's place, or bytes that are no text, are ignored", () =>
  inFolder(async (folder) => {
    const path = tuningPath(folder, KEY);
    await Deno.mkdir(path);
    assertEquals(readTuning(folder, KEY), null);
    await Deno.remove(path);
    await Deno.writeFile(path, Uint8Array.from([0xff, 0xfe, 0, 1]));
    assertEquals(readTuning(folder, KEY), null);
  }));

Deno.test("without permission nothing is read, nothing is asked and nothing fails", () =>
  inFolder(async (folder) => {
    await writeTuning(folder, KEY, STORED);
    const module = (name: string) => new URL(`../../src/gpu/${name}`, import.meta.url).href;
    const program = `import { readTuning } from "${module("tuning_file.ts")}";
import { tuningFolder } from "${module("tuning_key.ts")}";
console.log(JSON.stringify([tuningFolder(undefined), readTuning(${JSON.stringify(folder)}, ${JSON.stringify(KEY)})]));`;
    const script = `${folder}/program.ts`;
    await Deno.writeTextFile(script, program);
    const outcome = async (...permissions: string[]) => {
      const { stdout, code } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-check", ...permissions, script],
        env: { SWITCHYARD_CALIBRATION: "/chosen" },
        stdin: "null",
      }).output();
      assertEquals(code, 0, permissions.join(" "));
      return JSON.parse(new TextDecoder().decode(stdout));
    };
    assertEquals(await outcome(), [null, null]);
    assertEquals(await outcome("--allow-all", "--deny-read", "--deny-env"), [null, null]);
    assertEquals(await outcome("--allow-env=SWITCHYARD_CALIBRATION", `--allow-read=${folder}`), ["/chosen", STORED]);
    assertNotEquals(STORED.tuning, {});
    assert(readTuning(folder, KEY) !== null);
  }));
