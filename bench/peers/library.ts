/**
 * What a file about a peer library implements.
 *
 * @module
 */
import type { HostArrays, Outputs, PureTask, TrainTask } from "./task.ts";

/** A task with its data on the device, ready to be called. */
export interface Prepared {
  /** Submits one call. A task whose calls end with a read returns the promise of it. */
  call(): void | Promise<void>;
  /** Waits until all calls are done, and frees what they made. */
  settle(): Promise<void>;
  /** Does the task once from the start and returns its results. */
  outputs(): Promise<Outputs>;
}

/** A library on one of its backends. */
export interface Library {
  /** Uploads the inputs and makes the task ready in one of the forms of the table in `peers.ts`. */
  prepare(task: PureTask | TrainTask, inputs: HostArrays, form: string): Prepared | Promise<Prepared>;
}
