/**
 * The factors of the auxiliary losses: as published for a router, or as the configuration has them.
 *
 * @module
 */
import type { TrainConfig } from "./config.ts";
import { ROUTERS } from "./routers.ts";

/** Name of the loss that keeps logits small; all others balance experts. */
const Z_LOSS = "zLoss";

/**
 * The factors of a router's auxiliary losses by name. One whose factor is 0 is left out, so it is not computed.
 *
 * @param config The router, and the factors that replace the published ones.
 */
export function auxCoefficients(
  { router, lookup, aux, zLoss }: Pick<TrainConfig, "router" | "lookup" | "aux" | "zLoss">,
): Readonly<Record<string, number>> {
  if (router === "memory" && lookup !== "softmax") return {};
  const factors = Object.entries(ROUTERS[router].coefficients ?? {}).map(([name, published]) =>
    [name, (name === Z_LOSS ? zLoss : aux) ?? published] as const
  );
  return Object.fromEntries(factors.filter(([, factor]) => factor !== 0));
}
