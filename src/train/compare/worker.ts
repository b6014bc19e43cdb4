/**
 * The script that trains one run of a comparison in a process of its own. The first line of standard input is the
 * configuration as JSON, and the end of standard input asks the run to save and stop. Standard output carries one event
 * a line; what is thrown becomes a last line `{"event":"error"}`.
 *
 * Interrupts from a terminal reach this process too, and are left to the comparison that started it.
 */
import { init, SwitchyardError } from "../../../mod.ts";
import type { TrainConfig } from "../config.ts";
import { formatEvent } from "../output.ts";
import { runTraining } from "../program.ts";
import { runScript } from "../script.ts";
import { linesOf } from "./lines.ts";
import { reasonOf } from "./reason.ts";

const STOPPED = 3;

async function main(): Promise<number> {
  for (const signal of Deno.build.os === "windows" ? ["SIGINT" as const] : ["SIGINT" as const, "SIGTERM" as const]) {
    Deno.addSignalListener(signal, () => {});
  }
  const input = linesOf(Deno.stdin.readable);
  const first = await input.next();
  if (first.done === true) return STOPPED;
  // It was written by the comparison from a checked configuration.
  const config = JSON.parse(first.value) as TrainConfig;
  const controller = new AbortController();
  input.next().finally(() => controller.abort());
  try {
    const end = await runTraining(config, {
      device: await init(),
      onEvent: (event) => console.log(formatEvent(event)),
      signal: controller.signal,
      clock: () => performance.now() / 1000,
    });
    return end === "interrupted" ? STOPPED : 0;
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    console.log(JSON.stringify({ event: "error", reason: reasonOf(error) }));
    return 1;
  }
}

await runScript(main);
