/**
 * The script behind `deno task train`. Exit status: 0 when the run is over, 130 (SIGINT) or 143 (SIGTERM) when it was
 * interrupted and saved, 2 for invalid options, 1 for any other error.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import { init } from "../../mod.ts";
import { describeFlags, FLAGS } from "./option_table.ts";
import { loadConfig } from "./config_file.ts";
import type { ProfileEvent, RunEvent } from "./events.ts";
import { listenForInterrupts } from "./interrupts.ts";
import { describeEvent, describeProfile, formatEvent, type Verbosity } from "./output.ts";
import { runTraining } from "./program.ts";
import { trackProgress } from "./progress.ts";
import { runScript } from "./script.ts";

const USAGE = `Trains a byte-level language model and writes its report.

  deno task train [options]

${describeFlags()}`;

const BAR_LENGTH = 24;

function secondsSinceStart(): number {
  return performance.now() / 1000;
}

async function main(): Promise<number> {
  const { help, ...flags } = parseArgs(Deno.args, { string: FLAGS.string, boolean: [...FLAGS.boolean, "help"] });
  if (help === true) {
    console.log(USAGE);
    return 0;
  }
  const device = await init();
  const config = await loadConfig({ adapter: device.software ? "software" : "hardware", flags });
  const hasBar = !config.quiet && !config.json && Deno.stderr.isTerminal();
  const verbosity: Verbosity = config.quiet ? "quiet" : hasBar ? "bar" : "all";
  const progress = trackProgress({ clock: secondsSinceStart, deadline: config.seconds });
  let bar: ProgressBar | undefined;

  /** What is said when the bar is gone. */
  const closing: string[] = [];
  const profiled: string[] = [];

  function onEvent(event: RunEvent): void {
    progress.onEvent(event);
    if (config.json) return console.log(formatEvent(event));
    if (event.event === "profile") return tellProfile(event);
    const lines = describeEvent(event, verbosity);
    if (bar !== undefined) {
      closing.push(...lines);
      return;
    }
    for (const line of lines) console.log(line);
    if (event.event !== "start" || !hasBar) return;
    bar = new ProgressBar({
      value: event.step,
      max: event.steps,
      barLength: BAR_LENGTH,
      formatter: ({ progressBar }) => `[${progressBar}] ${progress.describe()}`,
    });
  }

  function tellProfile(event: ProfileEvent): void {
    const lines = describeProfile(event, verbosity);
    if (bar !== undefined) profiled.push(...lines);
    else for (const line of lines) console.error(line);
  }

  function onStep(step: number): void {
    progress.onStep(step);
    if (bar !== undefined) bar.value = step;
  }

  using interrupts = listenForInterrupts(() => {
    console.error("Stopping after this step; once more to stop at once and lose what was not saved");
  });
  try {
    const end = await runTraining(config, {
      device,
      onEvent,
      onStep,
      signal: interrupts.signal,
      clock: secondsSinceStart,
    });
    return end === "interrupted" ? interrupts.exitCode : 0;
  } finally {
    await bar?.stop();
    for (const line of profiled) console.error(line);
    for (const line of closing) console.log(line);
  }
}

await runScript(main);
