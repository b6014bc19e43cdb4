/**
 * Checks on functions that are traced.
 *
 * @module
 */
import { callSite, TraceError } from "./errors.ts";

/**
 * Passes a traced function's result through, unless it is a promise: a traced function runs once and must be synchronous.
 *
 * @throws {TraceError} If the function is asynchronous.
 */
export function expectNoPromise<R>(transform: string, value: R): R {
  if (value instanceof Promise) {
    // Its rejection would otherwise surface as an unhandled one beside our error.
    value.catch(() => {});
    throw new TraceError("trace/async", {
      summary: `Cannot trace an async function in ${transform}`,
      facts: [["at", callSite()]],
      fix: "make the function synchronous and await its result outside",
    });
  }
  return value;
}
