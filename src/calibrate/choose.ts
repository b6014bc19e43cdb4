/**
 * When a measured kernel is taken over the built-in choice: only where it wins by more than machines fluctuate.
 *
 * @module
 */

/** Share of the standard's time below which a candidate is faster by more than noise. */
const WORTH_IT = 0.93;
/** Share of the rounds that a candidate has to win. */
const MOST_ROUNDS = 0.75;

/** A candidate against the standard, round by round. */
export interface Comparison {
  /** Median over rounds of its time divided by the standard's. */
  readonly ratio: number;
  /** Rounds in which it was faster. */
  readonly wins: number;
  /** Rounds. */
  readonly rounds: number;
  /** Whether it is faster beyond doubt. */
  readonly isFaster: boolean;
}

/** Compares times of the same rounds. */
export function compareTimes(candidate: readonly number[], standard: readonly number[]): Comparison {
  const ratios = candidate.map((ms, round) => ms / standard[round]!);
  const ratio = median(ratios);
  const wins = ratios.filter((each) => each < 1).length;
  const rounds = ratios.length;
  return { ratio, wins, rounds, isFaster: rounds > 0 && ratio < WORTH_IT && wins >= MOST_ROUNDS * rounds };
}

/** Number of the best of those candidates that are faster beyond doubt, or null if the standard stays. */
export function bestOf(candidates: readonly Comparison[]): number | null {
  let best: number | null = null;
  candidates.forEach(({ ratio, isFaster }, i) => {
    if (isFaster && (best === null || ratio < candidates[best]!.ratio)) best = i;
  });
  return best;
}

/** What was measured at one size: which of two ways is faster beyond doubt. */
export interface ThresholdProbe {
  /** The size. */
  readonly work: number;
  /** The way of small sizes, the way of large ones, or neither. */
  readonly faster: "below" | "above" | "neither";
}

/**
 * Moves a threshold as far as measurements speak for it without a gap.
 *
 * @param probes By ascending size.
 * @param standard Size from which the way of large sizes is taken today.
 * @param never What stands for no size at all.
 */
export function chooseThreshold(probes: readonly ThresholdProbe[], standard: number, never: number): number {
  let threshold = standard;
  for (const { work, faster } of probes.filter(({ work }) => work < standard).reverse()) {
    if (faster !== "above") break;
    threshold = work;
  }
  if (threshold !== standard) return threshold;
  const above = probes.filter(({ work }) => work >= standard);
  const stay = above.findIndex(({ faster }) => faster !== "below");
  if (stay === 0 || above.length === 0) return standard;
  return stay < 0 ? never : above[stay]!.work;
}

/** The median; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
