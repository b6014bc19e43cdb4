/**
 * The script behind `deno task doctor`. Exit status: 0 if models can be trained here, 1 if not.
 */
import { parseArgs } from "@std/cli/parse-args";
import { diagnose } from "./diagnose.ts";
import { resolveFlags, runScript } from "./script.ts";

async function main(): Promise<number> {
  const { help, ...flags } = parseArgs(Deno.args, { boolean: ["help"] });
  if (help === true) {
    console.log(
      "Says what this machine offers to the library, what is missing and how to get it.\n\n  deno task doctor",
    );
    return 0;
  }
  resolveFlags("examine this machine", {}, flags);
  const { lines, isUsable } = await diagnose();
  for (const line of lines) console.log(line);
  return isUsable ? 0 : 1;
}

await runScript(main);
