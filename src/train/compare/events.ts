/**
 * What a comparison tells while it goes on. With `--json` each event is one line of standard output.
 *
 * @module
 */
import type { RunEvent } from "../events.ts";

/** Which run an event is about. */
export interface RunName {
  /** The variant's name. */
  readonly variant: string;
  /** The seed. */
  readonly seed: number;
}

/** A comparison is about to begin or to go on. */
export interface ComparisonStartEvent {
  /** Kind of the event. */
  readonly event: "comparison";
  /** Folder of the comparison. */
  readonly out: string;
  /** Names of the variants. */
  readonly variants: readonly string[];
  /** Number of seeds. */
  readonly seeds: number;
  /** Number of runs. */
  readonly runs: number;
  /** How many of them are over. */
  readonly over: number;
}

/** A run is about to begin or to go on. */
export interface RunBeginEvent extends RunName {
  /** Kind of the event. */
  readonly event: "run";
  /** Its number, from 1. */
  readonly number: number;
  /** Number of runs. */
  readonly runs: number;
}

/** Something that a run told. */
export type RunToldEvent = RunName & RunEvent;

/** A run failed and is recorded as that; the others go on. */
export interface RunFailedEvent extends RunName {
  /** Kind of the event. */
  readonly event: "failed";
  /** Why. */
  readonly reason: string;
}

/** A run's process ended before the run did; it goes on from its last checkpoint. */
export interface RunCrashedEvent extends RunName {
  /** Kind of the event. */
  readonly event: "crashed";
  /** What the process left. */
  readonly reason: string;
}

/** The report was written. */
export interface ReportEvent {
  /** Kind of the event. */
  readonly event: "report";
  /** Paths of what was written. */
  readonly files: readonly string[];
}

/** What a comparison tells. */
export type ComparisonEvent =
  | ComparisonStartEvent
  | RunBeginEvent
  | RunToldEvent
  | RunFailedEvent
  | RunCrashedEvent
  | ReportEvent;
