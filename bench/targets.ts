/**
 * What the library wants to reach on software adapters and on GPUs, and whether a run did.
 *
 * Milliseconds were set on one machine; ratios to the best peer hold on others too, so both are told. Goals for GPUs are
 * shares of what the card itself does in the same run.
 *
 * @module
 */
import { formatMs } from "./format.ts";

/** A goal for one contender. */
export interface Target {
  /** Milliseconds of a call at most, on two cores of a server CPU. */
  readonly ms?: number;
  /** The best WebGPU peer takes at least this many times the time. */
  readonly overWebGpu?: number;
  /** The best peer of any kind takes at least this many times the time. */
  readonly overAny?: number;
  /** At most this many times the time of the contender it is compared with. */
  readonly ratio?: number;
  /** At least this share of the card's rate of f32 arithmetic. */
  readonly ofPeak?: number;
  /** At least this share of the bandwidth of a copy. */
  readonly ofCopy?: number;
  /** The host submits a call in at most this share of the time that the call takes. */
  readonly ofHost?: number;
}

const SOFTWARE: Readonly<Record<string, Target>> = {
  // 35 GFLOP/s.
  "matmul 1024x1024x1024, matmul": { ms: 61, overWebGpu: 6 },
  "elementwise_chain 16Mi, fused": { ms: 28, overAny: 3 },
  "softmax 2048x512, forward": { ms: 2, overWebGpu: 6 },
  "layer_norm 2048x512, forward": { ms: 2, overWebGpu: 6 },
  "mlp_step adam, 10 steps a read": { ms: 90, overAny: 1 },
  "transformer_step block, each loss read": { ms: 115, overAny: 1 },
  "moe_layer small top-2, forward+backward": { ms: 65, overAny: 1.55 },
  "moe_layer large top-2, forward+backward": { ms: 430, overAny: 1.39 },
  "execute T2048 D128 E8 F256 K1 uniform, execute forward": { ratio: 1.15 },
  "execute T2048 D128 E8 F256 K1 uniform, execute forward+backward": { ratio: 1.15 },
  "execute T2048 D128 E8 F256 K2 uniform, execute forward": { ratio: 1.15 },
  "execute T2048 D128 E8 F256 K2 uniform, execute forward+backward": { ratio: 1.15 },
  "execute T512 D128 E8 F256 K1 uniform, execute forward": { ratio: 1.15 },
  "execute T512 D128 E8 F256 K1 uniform, execute forward+backward": { ratio: 1.15 },
  "execute T4096 D256 E32 F512 K2 uniform, execute forward": { ratio: 1.15 },
  "execute T4096 D256 E32 F512 K2 uniform, execute forward+backward": { ratio: 1.15 },
  "start warm, to the first step": { ms: 400, overWebGpu: 1 },
  "start cold, to the first step": { ms: 1900, overWebGpu: 1 },
};

const OVER_DENSE: Target = { ratio: 1.2 };
const HIDDEN_HOST: Target = { ofHost: 0.9 };

const HARDWARE: Readonly<Record<string, Target>> = {
  "matmul 4096x4096x4096, matmul": { ofPeak: 0.5 },
  "elementwise_chain 16Mi, fused": { ofCopy: 0.8 },
  "elementwise_chain 32Mi, fused": { ofCopy: 0.8 },
  ...Object.fromEntries(
    ["T2048 D128 E8 F256 K1", "T2048 D128 E8 F256 K2", "T4096 D256 E32 F512 K2", "T16384 D1024 E64 F2048 K2"]
      .flatMap((mixture) =>
        ["forward", "forward+backward"].map((pass) => `execute ${mixture} uniform, execute ${pass}`)
      )
      .map((name) => [name, OVER_DENSE]),
  ),
  ...Object.fromEntries(
    ["small", "base"].flatMap((preset) => ["dense", "switch"].map((router) => `train_step ${preset}, ${router}`))
      .map((name) => [name, HIDDEN_HOST]),
  ),
};

/** Goals of a class of adapters by the name of a result. */
export function targetsFor(software: boolean): Readonly<Record<string, Target>> {
  return software ? SOFTWARE : HARDWARE;
}

/** What was measured for a goal. */
export interface Reached {
  /** Milliseconds of a call. */
  readonly ms: number;
  /** Times the time that the best WebGPU peer took. */
  readonly overWebGpu?: number | undefined;
  /** Times the time that the best peer of any kind took. */
  readonly overAny?: number | undefined;
  /** Times the time of the contender it is compared with. */
  readonly ratio?: number | undefined;
  /** Share of the card's rate of f32 arithmetic. */
  readonly ofPeak?: number | undefined;
  /** Share of the bandwidth of a copy. */
  readonly ofCopy?: number | undefined;
  /** Share of the time in which the host submitted the call. */
  readonly ofHost?: number | undefined;
}

/** Says for each part of a goal whether it was met, or by which factor it was missed; a dash where nothing is known. */
export function verdict(target: Target, reached: Reached): string {
  const parts: readonly (readonly [goal: string, missedBy: number | undefined])[] = [
    ...(target.ms === undefined ? [] : [[`${formatMs(target.ms)}`, reached.ms / target.ms] as const]),
    ...(target.overWebGpu === undefined
      ? []
      : [[`${target.overWebGpu}x WebGPU peers`, over(target.overWebGpu, reached.overWebGpu)] as const]),
    ...(target.overAny === undefined
      ? []
      : [[`${target.overAny}x any peer`, over(target.overAny, reached.overAny)] as const]),
    ...(target.ratio === undefined
      ? []
      : [[`${target.ratio}x dense`, reached.ratio === undefined ? undefined : reached.ratio / target.ratio] as const]),
    ...shareOf("f32 peak", target.ofPeak, reached.ofPeak),
    ...shareOf("copy", target.ofCopy, reached.ofCopy),
    ...(target.ofHost === undefined
      ? []
      : [["host hidden", reached.ofHost === undefined ? undefined : reached.ofHost / target.ofHost] as const]),
  ];
  return parts.map(([goal, missedBy]) => {
    if (missedBy === undefined) return `${goal}: -`;
    return missedBy <= 1 ? `${goal}: met` : `${goal}: missed by ${missedBy.toFixed(2)}x`;
  }).join(", ");
}

function shareOf(
  of: string,
  wanted: number | undefined,
  found: number | undefined,
): readonly (readonly [goal: string, missedBy: number | undefined])[] {
  return wanted === undefined ? [] : [[`${100 * wanted} % of ${of}`, over(wanted, found)]];
}

function over(wanted: number, found: number | undefined): number | undefined {
  return found === undefined ? undefined : wanted / found;
}
