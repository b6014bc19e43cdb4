/**
 * Runs every check that a change must pass beside the tests, all of them even if one fails, and sums them up.
 *
 * Arguments are flags for the commands that resolve imports: `--import-map=…` where JSR is out of reach.
 *
 * @module
 */
import configuration from "../deno.json" with { type: "json" };

/** A check: its name in the summary and the arguments of the `deno` that performs it. */
interface Step {
  readonly name: string;
  readonly args: readonly string[];
}

const root = new URL("../", import.meta.url);

/** Keeps those of the paths, relative to the repository, that exist. */
function existing(paths: readonly string[]): string[] {
  return paths.filter((path) => {
    try {
      Deno.statSync(new URL(path, root));
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  });
}

/** Lists the checks in the order in which a failure is cheapest to learn of. */
function steps(importFlags: readonly string[]): Step[] {
  const entryPoints = Object.values(configuration.exports);
  return [
    { name: "format", args: ["fmt", "--check"] },
    { name: "lint", args: ["lint"] },
    {
      name: "types",
      args: ["check", ...importFlags, ...existing(["mod.ts", "src", "tests", "bench", "tools", "examples"])],
    },
    { name: "layering", args: ["test", "-A", ...importFlags, "tests/layering_test.ts"] },
    { name: "documentation", args: ["doc", ...importFlags, "--lint", ...entryPoints] },
    {
      name: "documentation examples",
      args: ["test", "-A", "--doc", ...importFlags, ...existing(["mod.ts", "src", "README.md", "docs"])],
    },
    // No import map: a package is published with the imports of deno.json, of which the library uses only npm's.
    { name: "publish dry run", args: ["publish", "--dry-run", "--allow-dirty"] },
  ];
}

/** A driver may crash a process that exits: a check that dies of a signal is tried again, one that fails is not. */
const TRIES = 3;

/** Performs a check with its output shown and tells whether it passed. */
async function passes(step: Step): Promise<boolean> {
  for (let attempt = 1;; attempt++) {
    console.log(`\n== ${step.name}: deno ${step.args.join(" ")}`);
    const { success, signal } = await new Deno.Command(Deno.execPath(), {
      args: [...step.args],
      cwd: root,
      stdin: "null",
    }).spawn().status;
    if (signal === null || attempt === TRIES) return success;
    console.log(`\n== ${step.name} died of ${signal}`);
  }
}

const results: { readonly name: string; readonly passed: boolean }[] = [];
for (const step of steps(Deno.args)) results.push({ name: step.name, passed: await passes(step) });

console.log("\n== summary");
for (const { name, passed } of results) console.log(`${passed ? "ok    " : "FAILED"}  ${name}`);
Deno.exit(results.every(({ passed }) => passed) ? 0 : 1);
