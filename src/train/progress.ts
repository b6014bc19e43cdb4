/**
 * The text beside a progress bar: step, loss, bits per byte, speed, time left.
 *
 * @module
 */
import type { RunEvent } from "./events.ts";
import { formatCount, formatDuration, formatNumber } from "./html.ts";

/** Follows a run. */
export interface Progress {
  /** Takes note of an event. */
  onEvent(event: RunEvent): void;
  /** Takes note of a step. */
  onStep(step: number): void;
  /** The last step that was submitted. */
  readonly step: number;
  /** All that is known, in one line. */
  describe(): string;
}

/** What to reckon with. */
export interface ProgressOptions {
  /** Seconds since the start of the process. */
  readonly clock: () => number;
  /** Seconds at which the run stops, or null. */
  readonly deadline: number | null;
}

/** Starts to follow a run, which has not started yet. */
export function trackProgress({ clock, deadline }: ProgressOptions): Progress {
  let [step, steps] = [0, 0];
  let loss: number | undefined;
  let training: number | undefined;
  let validation: number | undefined;
  let speed: number | undefined;
  /** Seconds and step of the first event, for the pace with evaluations and checkpoints in it. */
  let began: readonly [seconds: number, step: number] | undefined;

  function describeTimeLeft(): string {
    if (began === undefined || step <= began[1]) return "";
    const pace = (clock() - began[0]) / (step - began[1]);
    const left = Math.min((steps - step) * pace, deadline === null ? Infinity : deadline - clock());
    return `${formatDuration(Math.max(0, left))} left`;
  }

  return {
    get step(): number {
      return step;
    },
    onEvent(event: RunEvent): void {
      if (event.event === "start") {
        ({ step, steps } = event);
      } else if (event.event === "metrics") {
        // The first steps compile; the pace is counted from where they end.
        began ??= [clock(), event.step];
        loss = event.loss ?? loss;
        training = event.trainBitsPerByte ?? training;
        validation = event.validationBitsPerByte ?? validation;
        speed = event.bytesPerSecond ?? speed;
      }
    },
    onStep(submitted: number): void {
      step = submitted;
    },
    describe(): string {
      return [
        `step ${formatNumber(step)}/${formatNumber(steps)}`,
        loss === undefined ? "" : `loss ${formatNumber(loss, 3)}`,
        training === undefined ? "" : `${formatNumber(training, 3)} bits per byte`,
        validation === undefined ? "" : `validation ${formatNumber(validation, 3)}`,
        speed === undefined ? "" : `${formatCount(speed)} tokens/s`,
        describeTimeLeft(),
      ].filter((part) => part !== "").join("  ");
    },
  };
}
