/**
 * What options must be together: sizes that fit each other and the router.
 *
 * @module
 */
import type { OptionName, TrainConfig } from "./config.ts";
import { mostVisits, ROUTERS } from "./routers.ts";

/** A configuration whose options are checked against each other. */
export interface Checked {
  /** The configuration. */
  readonly config: TrainConfig;
  /** Says whether options are valid one by one; others have been reported already. */
  sound(...names: readonly OptionName[]): boolean;
  /** Reports what an option must be. */
  report(name: OptionName, requirement: string): void;
}

/** Refuses what lets a byte's prediction depend on later ones, with the way round. */
export function notCausal(reason: string): string {
  return `is not causal: ${reason}; allow-non-causal trains it all the same`;
}

/** Checks the sizes of the model. */
export function checkSizes({ config, sound, report }: Checked): void {
  const { width, heads } = config;
  if (!sound("width", "heads")) return;
  if (width % heads !== 0) {
    report("heads", `must divide width (${width})`);
  } else if ((width / heads) % 2 !== 0) {
    report("heads", `must leave an even width per head for rotary positions (${width} / ${heads} is ${width / heads})`);
  }
}

/** Checks the router, and how many experts it has and lets a byte visit. */
export function checkRouter({ config, sound, report }: Checked): void {
  const { router, experts, topk, width, batch, seq, allowNonCausal } = config;
  if (!sound("router")) return;
  const { visits, causal = true } = ROUTERS[router];
  if (!causal && !allowNonCausal) {
    report("router", notCausal("a byte's experts depend on later bytes, which a language model must not see"));
  }
  if (sound("experts")) {
    if (visits === "none" && experts !== 1) report("experts", `has no meaning here: router ${router} has no experts`);
    if (router === "noisy-topk" && experts < 2) {
      report("experts", "must be at least 2: router noisy-topk compares with an expert that a byte does not visit");
    }
    if (router === "base" && sound("batch", "seq") && (batch * seq) % experts !== 0) {
      report(
        "experts",
        `must divide the ${batch * seq} bytes of a batch (${batch} x ${seq}): router base balances them`,
      );
    }
  }
  if (!sound("topk")) return;
  if (visits !== "many" && topk !== 1) report("topk", `must be 1 with router ${router}; router topk takes more`);
  const most = mostVisits(router, experts);
  if (visits === "many" && sound("experts") && most > 0 && topk > most) {
    report("topk", `must be an integer in 1..${most} (experts is ${experts})`);
  }
  if (router === "multihash" && sound("width") && width % topk !== 0) {
    report("topk", `must divide width (${width}): router multihash cuts layers into as many segments`);
  }
}

/** Checks that a batch can be taken in so many parts. */
export function checkMicroBatches({ config, sound, report }: Checked): void {
  const { router, batch, seq, experts, microBatches } = config;
  if (!sound("microBatches", "batch") || microBatches === 1) return;
  if (batch % microBatches !== 0) return report("microBatches", `must divide batch (${batch})`);
  const bytes = batch / microBatches * seq;
  if (router !== "base" || !sound("router", "experts", "seq") || (batch * seq) % experts !== 0) return;
  if (bytes % experts !== 0) {
    report("microBatches", `must leave a multiple of experts (${experts}) of bytes: router base balances them`);
  }
}
