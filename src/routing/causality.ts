/**
 * Asking whether a router suits a causal model.
 *
 * @module
 */
import { ConfigError, notice } from "../core/errors.ts";
import type { Router } from "./plan_types.ts";

/** What becomes of a router that is not causal: it is refused with an error, or used with a notice. */
export type NonCausal = "refused" | "warned";

/**
 * Refuses a router whose plans for a token depend on later tokens: a model trained with it sees the future, and generates
 * differently than it was trained.
 *
 * @param model Name of the model, for the message.
 * @param nonCausal With `"warned"` there is a notice in place of the error, once for each message.
 * @throws {ConfigError} If the router is not causal.
 *
 * @example Expert Choice
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { ConfigError, expectCausal, expertChoiceRouter } from "@switchyard/switchyard";
 *
 * assertThrows(() => expectCausal("transformerLm", expertChoiceRouter({ width: 8, experts: 4 })), ConfigError);
 * ```
 */
export function expectCausal(
  model: string,
  router: Pick<Router<unknown>, "name" | "causal">,
  nonCausal: NonCausal = "refused",
): void {
  if (router.causal) return;
  if (nonCausal === "warned") {
    notice(
      `router ${router.name} in ${model} is not causal: a token's experts depend on later tokens, losses may be too good`,
    );
    return;
  }
  throw new ConfigError("config/causal", {
    summary: `Cannot use router ${router.name} in ${model}: a token's experts depend on later tokens`,
    facts: [["router", router.name], ["causal", "false"]],
    fix: 'use a router that is causal; with k above 1 and a capacity, capacityOrder "tokenMajor" makes topKRouter so',
    details: { model, router: router.name },
  });
}
