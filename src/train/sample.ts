/**
 * The script behind `deno task sample`: prints a prompt and how a run's model goes on.
 */
import { parseArgs } from "@std/cli/parse-args";
import { z } from "zod";
import { init } from "../../mod.ts";
import { readSavedConfig } from "./config_file.ts";
import { generateText } from "./generate.ts";
import { buildModel } from "./model.ts";
import { roundedOnce } from "./precision.ts";
import { loadTrained } from "./run_files.ts";
import { describeOptions, resolveFlags, runScript } from "./script.ts";

const OPTIONS = {
  from: {
    kind: "text",
    schema: z.string("is required: the folder of a run").min(1, "is required: the folder of a run"),
    help: "folder of the run",
  },
  prompt: { kind: "text", schema: z.string().default(""), help: "text to go on from" },
  tokens: {
    kind: "number",
    schema: z.number("must be an integer in 1..1000000").int("must be an integer in 1..1000000")
      .min(1, "must be an integer in 1..1000000").max(1e6, "must be an integer in 1..1000000").default(400),
    help: "bytes to generate, 400 by default",
  },
  temperature: {
    kind: "number",
    schema: z.number("must be a number in 0..100").min(0, "must be a number in 0..100")
      .max(100, "must be a number in 0..100").default(0.8),
    help: "0 takes the likeliest byte, 1 draws as the model says; 0.8 by default",
  },
  seed: {
    kind: "number",
    schema: z.number("must be an integer in 0..4294967295").int("must be an integer in 0..4294967295")
      .min(0, "must be an integer in 0..4294967295").max(2 ** 32 - 1, "must be an integer in 0..4294967295").default(0),
    help: "random seed, 0 by default",
  },
} as const;

const USAGE = `Generates text from a run's newest checkpoint.

  deno task sample --from DIR [options]

${describeOptions(OPTIONS)}`;

async function main(): Promise<number> {
  const { help, ...flags } = parseArgs(Deno.args, { string: Object.keys(OPTIONS), boolean: ["help"] });
  if (help === true) {
    console.log(USAGE);
    return 0;
  }
  const { from, prompt, tokens, temperature, seed } = resolveFlags("generate text", OPTIONS, flags);
  const config = await readSavedConfig(from);
  await init();
  const model = buildModel(config, "checkpoint");
  const { params } = await loadTrained(from, model);
  const encoder = new TextEncoder();
  const parts = generateText(model, roundedOnce(params, config.precision), {
    prompt: encoder.encode(prompt),
    tokens,
    temperature,
    seed,
    window: config.seq,
  });
  await Deno.stdout.write(encoder.encode(prompt));
  for await (const part of parts) await Deno.stdout.write(encoder.encode(part));
  await Deno.stdout.write(encoder.encode("\n"));
  return 0;
}

await runScript(main);
