/**
 * What a run tells while it goes on. With `--json` each event is one line of standard output.
 *
 * @module
 */
import type { MetricsRow } from "./metrics.ts";

/** The run is about to take its first step of this process. */
export interface StartEvent {
  /** Kind of the event. */
  readonly event: "start";
  /** Folder of the run. */
  readonly out: string;
  /** The adapter, as it names itself. */
  readonly adapter: string;
  /** What is trained, in a few words. */
  readonly model: string;
  /** Parameters of the model. */
  readonly parameters: number;
  /** Parameters that one byte uses. */
  readonly activeParameters: number;
  /** The text and how a part was held out. */
  readonly corpus: string;
  /** Steps done before. */
  readonly step: number;
  /** Steps in all. */
  readonly steps: number;
  /** The most bytes on the device while a step runs, as planned. */
  readonly plannedBytes: number;
}

/** A step was profiled, and its trace is on the disk. */
export interface ProfileEvent {
  /** Kind of the event. */
  readonly event: "profile";
  /** The step, from 1. */
  readonly step: number;
  /** The Chrome trace. */
  readonly path: string;
  /** Dispatches of the step. */
  readonly kernels: number;
  /** Sum of their times in milliseconds. */
  readonly totalMs: number;
  /** Whose clock measured them. */
  readonly clock: "device" | "host";
  /** The first lines of a table of them, slowest first. */
  readonly table: readonly string[];
}

/** A row of `metrics.jsonl` was written. */
export interface MetricsEvent extends MetricsRow {
  /** Kind of the event. */
  readonly event: "metrics";
}

/** A checkpoint is on the disk. */
export interface CheckpointEvent {
  /** Kind of the event. */
  readonly event: "checkpoint";
  /** Steps done. */
  readonly step: number;
  /** Folder of the checkpoint. */
  readonly path: string;
}

/** The run was interrupted; it is saved and can be resumed. */
export interface InterruptedEvent {
  /** Kind of the event. */
  readonly event: "interrupted";
  /** Steps done. */
  readonly step: number;
  /** Folder of the run. */
  readonly out: string;
}

/** Training is over and everything is written. */
export interface EndEvent {
  /** Kind of the event. */
  readonly event: "end";
  /** Whether all steps were taken, or the time was up before. */
  readonly reason: "steps" | "seconds";
  /** Steps done. */
  readonly step: number;
  /** Bytes trained on. */
  readonly bytesSeen: number;
  /** Wall-clock seconds of training. */
  readonly seconds: number;
  /** Validation loss in bits per byte. */
  readonly validationBitsPerByte: number;
  /** What `gzip -9` needs for the held-out text, in bits per byte. */
  readonly gzipBitsPerByte: number;
  /** The beginning of a text. */
  readonly prompt: string;
  /** How the model goes on. */
  readonly sample: string;
  /** Paths of what was written. */
  readonly files: readonly string[];
}

/** What a run tells. */
export type RunEvent = StartEvent | ProfileEvent | MetricsEvent | CheckpointEvent | InterruptedEvent | EndEvent;
