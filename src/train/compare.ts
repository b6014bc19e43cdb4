/**
 * The script behind `deno task compare`. Exit status: 0 when all runs are over, 130 (SIGINT) or 143 (SIGTERM) when it was
 * interrupted and saved, 2 for invalid options, 1 for any other error.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import { listenForInterrupts } from "./interrupts.ts";
import { trackProgress } from "./progress.ts";
import { runScript } from "./script.ts";
import { trainInChild } from "./compare/child.ts";
import { runComparison } from "./compare/compare.ts";
import type { ComparisonEvent } from "./compare/events.ts";
import { COMPARE_FLAGS, COMPARE_USAGE, type CompareOptions, loadCompareOptions } from "./compare/options.ts";
import { narrate } from "./compare/output.ts";
import { writeComparisonReport } from "./compare/write_report.ts";

const BAR_LENGTH = 24;

function secondsSinceStart(): number {
  return performance.now() / 1000;
}

/** Who tells events. */
interface Listener extends AsyncDisposable {
  /** Tells an event. */
  readonly onEvent: (event: ComparisonEvent) => void;
}

/** Tells events: as JSON, or as text with a progress bar for the run at hand. All is told when it is disposed of. */
function listener({ quiet, json }: CompareOptions): Listener {
  if (json) {
    return {
      onEvent: (event) => console.log(JSON.stringify(event)),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
  const narrator = narrate(secondsSinceStart);
  const hasBar = !quiet && Deno.stderr.isTerminal();
  let progress = trackProgress({ clock: secondsSinceStart, deadline: null });
  let bar: ProgressBar | undefined;
  /** What is said when the bar is gone. */
  let stopping = Promise.resolve();

  function stopBar(): Promise<void> {
    const gone = bar;
    bar = undefined;
    return stopping.then(() => gone?.stop());
  }

  function onEvent(event: ComparisonEvent): void {
    if (event.event === "run") progress = trackProgress({ clock: secondsSinceStart, deadline: null });
    if (event.event === "start" || event.event === "metrics") progress.onEvent(event);
    if (event.event === "start" && hasBar) {
      const shown = progress;
      bar = new ProgressBar({
        value: event.step,
        max: event.steps,
        barLength: BAR_LENGTH,
        formatter: ({ progressBar }) => `[${progressBar}] ${event.variant}, seed ${event.seed}  ${shown.describe()}`,
      });
    }
    if (event.event === "metrics" && bar !== undefined) {
      progress.onStep(event.step);
      bar.value = event.step;
    }
    const lines = narrator.describe(event);
    if (lines.length === 0) return;
    stopping = stopBar().then(() => {
      for (const line of lines) console.log(line);
    });
  }
  // A process that ends at once would not say what waits for the bar.
  return { onEvent, [Symbol.asyncDispose]: stopBar };
}

async function main(): Promise<number> {
  const { help, ...flags } = parseArgs(Deno.args, {
    string: [...COMPARE_FLAGS.string],
    boolean: [...COMPARE_FLAGS.boolean],
  });
  if (help === true) {
    console.log(COMPARE_USAGE);
    return 0;
  }
  const options = await loadCompareOptions(flags);
  await using told = listener(options);
  const { onEvent } = told;
  if (options.request === null) {
    onEvent({ event: "report", files: await writeComparisonReport(options.out, new Date()) });
    return 0;
  }
  using interrupts = listenForInterrupts(() => {
    console.error("Saving the run at hand and stopping; once more to stop without a report");
  });
  const end = await runComparison(options.request, {
    out: options.out,
    command: ["deno task compare", ...Deno.args.map(quoted)].join(" "),
    execute: trainInChild,
    onEvent,
    signal: interrupts.signal,
  });
  return end === "interrupted" ? interrupts.exitCode : 0;
}

/** A word as a shell reads it back. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

await runScript(main);
