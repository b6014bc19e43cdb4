/**
 * Prints the flag that puts npm stand-ins in the place of `@std/*` when JSR cannot be reached, and nothing when it can.
 *
 * Tasks splice it in: `deno test -A $(deno run -q --no-config -A tools/std.ts)`. Run with `--no-config`, because the
 * configuration names the very packages whose reachability is in question.
 *
 * @module
 */
import configuration from "../deno.json" with { type: "json" };
import standIns from "./npm_std/import_map.json" with { type: "json" };

/** A mirror that swallows packets must not hold up a task; one that refuses answers within milliseconds. */
const PATIENCE_MS = 10_000;

/** Lists the JSR specifiers of every `@std` module that the stand-ins replace. */
function jsrSpecifiers(): string[] {
  const packages: Readonly<Record<string, string>> = configuration.imports;
  return Object.keys(standIns.imports).filter((name) => name.startsWith("@std/")).map((name) => {
    const owner = Object.keys(packages).find((candidate) => name === candidate || name.startsWith(`${candidate}/`));
    if (owner === undefined) throw new Error(`deno.json imports no package that holds ${name}`);
    return `${packages[owner]}${name.slice(owner.length)}`;
  });
}

/** Loads every specifier from the cache or from JSR; the run that follows then finds them cached. */
async function isReachable(specifiers: readonly string[]): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), PATIENCE_MS));
  const loaded = Promise.all(specifiers.map((specifier) => import(specifier))).then(() => true, () => false);
  const reachable = await Promise.race([loaded, timeout]);
  clearTimeout(timer);
  return reachable;
}

if (!(await isReachable(jsrSpecifiers()))) console.log("--import-map=tools/npm_std/import_map.json");
// An import still waiting for an answer would keep the process alive.
Deno.exit(0);
