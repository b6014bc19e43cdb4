/**
 * Stands in for `@std/cli/unstable-progress-bar` where JSR is out of reach: its interface, drawn by `cli-progress`.
 *
 * @module
 */
// @ts-types="npm:@types/cli-progress@^3"
import cliProgress from "npm:cli-progress@^3";

/** What a formatter is told at each redraw. */
export interface ProgressBarFormatter {
  /** Time since the start, as `mm:ss`. */
  styledTime: string;
  /** The bar itself, such as `###-------`. */
  progressBar: string;
  /** Milliseconds since the start. */
  time: number;
  /** `time` at the previous redraw. */
  previousTime: number;
  /** How far the work has come. */
  value: number;
  /** `value` at the previous redraw. */
  previousValue: number;
  /** The value at which the work is done. */
  max: number;
}

/** How a progress bar counts and looks. */
export interface ProgressBarOptions {
  /** The value to start from; 0 by default. */
  value?: number;
  /** The value at which the work is done. */
  max: number;
  /** Characters in the bar; 50 by default. */
  barLength?: number;
  /** The character of the done part; `#` by default. */
  fillChar?: string;
  /** The character of the part to do; `-` by default. */
  emptyChar?: string;
  /** Whether `stop` removes the bar; it stays by default. */
  clear?: boolean;
  /** Makes the line to show; by default time, bar and counts. */
  formatter?: (formatter: ProgressBarFormatter) => string;
}

/** Redraws a second, as in the original. */
const REDRAWS_PER_SECOND = 1;

function defaultFormatter(state: ProgressBarFormatter): string {
  return `[${state.styledTime}] [${state.progressBar}] [${state.value}/${state.max}]`;
}

function styleTime(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  return [Math.floor(seconds / 60), seconds % 60].map((part) => String(part).padStart(2, "0")).join(":");
}

/** Draws a line on standard error that shows how far some work has come; draws nothing where that is no terminal. */
export class ProgressBar {
  /** How far the work has come; the next redraw shows it. */
  value: number;
  /** The value at which the work is done. */
  max: number;
  #bar: cliProgress.SingleBar;
  #startTime: number = Date.now();
  #previousTime: number = 0;
  #previousValue: number;

  /** Draws the bar and starts to redraw it until `stop`. */
  constructor(options: ProgressBarOptions) {
    const { value = 0, max, barLength = 50, fillChar = "#", emptyChar = "-", clear = false } = options;
    const { formatter = defaultFormatter } = options;
    this.value = value;
    this.max = max;
    this.#previousValue = value;
    const draw = (): string => {
      const time = Date.now() - this.#startTime;
      const filled = Math.trunc(Math.min(Math.max(this.value / this.max, 0), 1) * barLength);
      const line = formatter({
        styledTime: styleTime(time),
        progressBar: fillChar.repeat(filled) + emptyChar.repeat(barLength - filled),
        time,
        previousTime: this.#previousTime,
        value: this.value,
        previousValue: this.#previousValue,
        max: this.max,
      });
      this.#previousTime = time;
      this.#previousValue = this.value;
      return line;
    };
    this.#bar = new cliProgress.SingleBar({ format: draw, fps: REDRAWS_PER_SECOND, clearOnComplete: clear });
    this.#bar.start(max, value);
  }

  /** Draws the bar a last time, or removes it, and leaves the line. */
  stop(): Promise<void> {
    this.#bar.update(this.value);
    this.#bar.stop();
    return Promise.resolve();
  }
}
