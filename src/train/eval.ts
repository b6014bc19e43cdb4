/**
 * The script behind `deno task eval`: measures a run's model on all of its held-out text.
 */
import { parseArgs } from "@std/cli/parse-args";
import { z } from "zod";
import { init } from "../../mod.ts";
import { describeMeasurement, measureRun } from "./measure.ts";
import { describeOptions, resolveFlags, runScript } from "./script.ts";

const OPTIONS = {
  from: {
    kind: "text",
    schema: z.string("is required: the folder of a run").min(1, "is required: the folder of a run"),
    help: "folder of the run",
  },
} as const;

const USAGE = `Measures a run's newest checkpoint on held-out text.

  deno task eval --from DIR

${describeOptions(OPTIONS)}`;

async function main(): Promise<number> {
  const { help, ...flags } = parseArgs(Deno.args, { string: Object.keys(OPTIONS), boolean: ["help"] });
  if (help === true) {
    console.log(USAGE);
    return 0;
  }
  const { from } = resolveFlags("measure a run", OPTIONS, flags);
  await init();
  for (const line of describeMeasurement(await measureRun(from))) console.log(line);
  return 0;
}

await runScript(main);
