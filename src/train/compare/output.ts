/**
 * What a comparison says on standard output: text for people, or one JSON object a line.
 *
 * @module
 */
import { formatCount, formatDuration, formatNumber } from "../html.ts";
import type { ComparisonEvent } from "./events.ts";

/** Puts events into lines of text, and knows which run they are about. */
export interface Narrator {
  /**
   * Puts an event into lines.
   *
   * @param event The event.
   * @returns Lines, none if there is nothing to say.
   */
  describe(event: ComparisonEvent): readonly string[];
}

/**
 * Begins to tell of a comparison.
 *
 * @param clock Seconds from any start.
 * @returns What puts events into text.
 */
export function narrate(clock: () => number): Narrator {
  let place = "";
  let [runs, number, over] = [0, 0, 0];
  let speed: number | undefined;
  const began = clock();
  let trained = 0;

  function timeLeft(): string {
    const left = (clock() - began) / Math.max(1, trained) * (runs - number);
    return runs === number ? "" : `, about ${formatDuration(left)} left`;
  }

  return {
    describe(event: ComparisonEvent): readonly string[] {
      switch (event.event) {
        case "comparison":
          ({ runs, over } = event);
          return [
            `Comparison  ${event.variants.length} variants with ${event.seeds} ${
              event.seeds === 1 ? "seed" : "seeds"
            }: ${runs} runs${over === 0 ? "" : `, ${over} of them over`}`,
            `Folder      ${event.out}`,
          ];
        case "run":
          ({ number } = event);
          speed = undefined;
          place = `[${String(number).padStart(String(runs).length)}/${runs}] ${event.variant}, seed ${event.seed}:`;
          return [];
        case "metrics":
          speed = event.bytesPerSecond ?? speed;
          return [];
        case "end": {
          trained++;
          const { validationBitsPerByte, step, seconds } = event;
          return [
            `${place} ${formatNumber(validationBitsPerByte, 3)} bits per byte after ${formatNumber(step)} steps in ${
              formatDuration(seconds)
            }${speed === undefined ? "" : ` (${formatCount(speed)} tokens/s)`}${timeLeft()}`,
          ];
        }
        case "failed":
          return [`${place} failed: ${event.reason}`];
        case "crashed":
          return [`${place} ${event.reason}; going on from the last checkpoint`];
        case "interrupted":
          return [`${place} stopped after step ${event.step}, saved. The same command goes on from there.`];
        case "report":
          return ["Written", ...event.files.map((file) => `    ${file}`)];
        case "start":
        case "checkpoint":
        // A variant cannot ask for a profile.
        case "profile":
          return [];
      }
    },
  };
}
