/**
 * Interrupts as an AbortSignal: the first asks a run to stop where it can be resumed, the second ends the process.
 *
 * @module
 */

/** Listens for interrupts until disposed. */
export interface Interrupts extends Disposable {
  /** Is aborted by the first interrupt. */
  readonly signal: AbortSignal;
  /** The exit status that shells give to a process that the interrupt ended: 130 for SIGINT, 143 for SIGTERM. */
  readonly exitCode: number;
}

/** Exit statuses by signal: 128 and the signal's number. */
const SIGNALS: readonly (readonly [Deno.Signal, exitCode: number])[] = Deno.build.os === "windows"
  ? [["SIGINT", 130]]
  : [["SIGINT", 130], ["SIGTERM", 143]];

/**
 * Begins to listen.
 *
 * @param onFirst Is called at the first interrupt.
 * @returns The signal, and the exit status once it is aborted.
 */
export function listenForInterrupts(onFirst: () => void): Interrupts {
  const controller = new AbortController();
  let status = 0;
  const listeners = SIGNALS.map(([name, exitCode]) => {
    function listener(): void {
      if (controller.signal.aborted) Deno.exit(exitCode);
      status = exitCode;
      controller.abort();
      onFirst();
    }
    Deno.addSignalListener(name, listener);
    return [name, listener] as const;
  });
  return {
    signal: controller.signal,
    get exitCode(): number {
      return status;
    },
    [Symbol.dispose](): void {
      for (const [name, listener] of listeners) Deno.removeSignalListener(name, listener);
    },
  };
}
