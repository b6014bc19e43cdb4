/**
 * What a run says on standard output: text for people, or one JSON object a line.
 *
 * @module
 */
import type { EndEvent, MetricsEvent, ProfileEvent, RunEvent, StartEvent } from "./events.ts";
import { formatCount, formatDuration, formatNumber, showControls } from "./html.ts";

/** How much text there is: everything, only what matters at the end, or the evaluations left to a progress bar. */
export type Verbosity = "all" | "quiet" | "bar";

/**
 * Puts an event into lines of text.
 *
 * @param event The event.
 * @param verbosity How much to say.
 * @returns Lines, none if there is nothing to say.
 */
export function describeEvent(event: RunEvent, verbosity: Verbosity): readonly string[] {
  switch (event.event) {
    case "start":
      return verbosity === "quiet" ? [] : describeStart(event);
    case "metrics":
      return verbosity === "all" && event.validationBitsPerByte !== undefined ? [describeRow(event)] : [];
    case "profile": // It goes to standard error; see describeProfile.
    case "checkpoint":
      return [];
    case "interrupted":
      return [`Stopped after step ${event.step}, saved. Go on with: deno task train --resume ${event.out}`];
    case "end":
      return describeEnd(event);
  }
}

/**
 * Puts what was profiled into lines of text for standard error: it is about this machine and not about the model.
 *
 * @param event The event.
 * @param verbosity How much to say.
 * @returns Lines, none if there is nothing to say.
 */
export function describeProfile({ step, path, table }: ProfileEvent, verbosity: Verbosity): readonly string[] {
  return verbosity === "quiet" ? [] : [`Profile of step ${formatNumber(step)}, written to ${path}`, ...table];
}

/**
 * Writes an event as one line of JSON. Numbers that are not finite become null.
 *
 * @param event The event.
 * @returns The line, without a newline.
 */
export function formatEvent(event: RunEvent): string {
  return JSON.stringify(event);
}

function describeStart(
  { model, parameters, activeParameters, adapter, corpus, out, step, steps, plannedBytes }: StartEvent,
): string[] {
  const active = activeParameters === parameters ? "" : `, ${formatCount(activeParameters)} of them used by a byte`;
  return [
    `Model     ${model}: ${formatCount(parameters)} parameters${active}`,
    `Text      ${corpus}`,
    `Adapter   ${adapter}`,
    `Memory    ${formatCount(plannedBytes)}B planned for a step`,
    `Folder    ${out}`,
    `Training  ${
      step === 0 ? `${formatNumber(steps)} steps` : `from step ${formatNumber(step)} to ${formatNumber(steps)}`
    }`,
  ];
}

function describeRow({ step, trainBitsPerByte, validationBitsPerByte, bytesPerSecond }: MetricsEvent): string {
  return [
    `step ${formatNumber(step)}`,
    validationBitsPerByte === undefined ? "" : `validation ${formatNumber(validationBitsPerByte, 3)} bits per byte`,
    trainBitsPerByte === undefined ? "" : `training ${formatNumber(trainBitsPerByte, 3)}`,
    bytesPerSecond === undefined ? "" : `${formatCount(bytesPerSecond)} tokens/s`,
  ].filter((part) => part !== "").join("  ");
}

function describeEnd(event: EndEvent): string[] {
  const { validationBitsPerByte: reached, gzipBitsPerByte: gzip, step, bytesSeen, seconds, prompt, sample } = event;
  const relation = reached <= gzip ? "below" : "above";
  return [
    `Validation  ${formatNumber(reached, 3)} bits per byte, ${relation} gzip -9 (${formatNumber(gzip, 3)})`,
    `Trained on  ${formatCount(bytesSeen)}B in ${formatNumber(step)} ${step === 1 ? "step" : "steps"} and ${
      formatDuration(seconds)
    }${event.reason === "seconds" ? ", then the time was up" : ""}`,
    "Sample",
    ...`${prompt}${sample}`.split("\n").map((line) => `    ${showControls(line)}`.trimEnd()),
    "Written",
    ...event.files.map((file) => `    ${file}`),
  ];
}
