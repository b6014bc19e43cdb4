/**
 * Check mode: counts what is not finite in the output of every op, and names the first op to blame at the next read.
 * The counts ride along with that read, so a checked step has no extra round trip and works with donation.
 *
 * @module
 */
import { castTo, iota, reshapeTo, sumOver } from "./arithmetic.ts";
import { type HostData, isFloat } from "./dtype.ts";
import { NonFiniteError } from "./errors.ts";
import { hostMap, hostReduce } from "./host.ts";
import { definePrimitive, type Primitive } from "./primitive.ts";
import type { Storage } from "./runtime.ts";
import { formatAval, type Shape } from "./shape.ts";
import { apply, type OpNode, type Tensor } from "./tensor.ts";
import { nodesBehind } from "./walk.ts";

const nonFinitePrimitive: Primitive = definePrimitive<null>({
  name: "nonFinite",
  kind: "discrete",
  shape: ([x]) => [{ shape: x!.shape, dtype: "u32" }],
  host: ([x]) => [hostMap([x!], (v) => Number.isFinite(v) ? 0 : 1, "u32")],
  // Exponent bits: comparing a value with itself is false for NaN on some adapters, as WGSL permits.
  lower: {
    as: "expr",
    cost: 2,
    wgsl: ([x], _, { t }) => `select(${t}(0), ${t}(1), (bitcast<${t}>(${x}) & ${t}(0x7f800000u)) == ${t}(0x7f800000u))`,
  },
});

const firstIndexPrimitive: Primitive = definePrimitive<null>({
  name: "firstIndex",
  kind: "discrete",
  shape: () => [{ shape: [], dtype: "u32" }],
  host: ([x]) => [hostReduce(x!, [0], 0xffffffff, Math.min)],
  lower: { as: "reduce", axes: () => [0], identity: () => "0xffffffffu", combine: (a, b) => `min(${a}, ${b})` },
});

/** What a check tells of one op. */
interface Checked {
  readonly name: string;
  readonly shape: Shape;
  readonly description: string;
  readonly site: string;
}

/** Extra outputs of a checked function, and what they mean. */
export interface FiniteCheck {
  /** Two scalars for each checked value: how many elements are not finite, and the first such index. */
  readonly outputs: readonly Tensor[];
  /** The ops, in the order of `outputs`. */
  readonly ops: readonly Checked[];
}

/** Builds the counts for every float value behind some outputs. */
export function buildFiniteCheck(outputs: readonly Tensor[]): FiniteCheck {
  const counted: Tensor[] = [];
  const ops: Checked[] = [];
  for (const node of nodesBehind(outputs)) {
    for (const value of node.outputs) {
      if (!isFloat(value.dtype) || value.size === 0) continue;
      const flags = apply(nonFinitePrimitive, [reshapeTo(castTo(value, "f32"), [value.size])]);
      const index = iota([value.size], "u32", 0);
      // Finite elements get an index past the end, so that the minimum is the first culprit.
      const place = apply(placeOfPrimitive, [flags, index]);
      counted.push(sumOver(flags, [0]), apply(firstIndexPrimitive, [place]));
      ops.push({
        name: node.primitive.name,
        shape: value.shape,
        description: describe(node),
        site: node.site ?? "unknown",
      });
    }
  }
  return { outputs: counted, ops };
}

const placeOfPrimitive: Primitive = definePrimitive<null>({
  name: "placeOf",
  kind: "discrete",
  shape: ([flag]) => [flag!],
  host: ([flag, index]) => [hostMap([flag!, index!], (f, i) => f ? i : 0xffffffff, "u32")],
  lower: { as: "expr", wgsl: ([flag, index], _, { t }) => `select(${t}(0xffffffffu), ${index}, ${flag} != ${t}(0))` },
});

function describe(node: OpNode): string {
  return `${node.primitive.name}(${node.inputs.map((input) => formatAval(input)).join(", ")})`;
}

interface PendingCheck {
  readonly label: string;
  readonly ops: readonly Checked[];
  readonly requests: readonly { readonly storage: Storage; readonly tensor: Tensor }[];
}

let pending: PendingCheck[] = [];

/** Leaves a check to the next read. */
export function addPendingCheck(check: PendingCheck): void {
  pending.push(check);
}

const HINTS: Readonly<Record<string, string>> = {
  log: "use logSoftmax(logits) instead of log(softmax(logits)), or add a small constant",
  sqrt: "keep the argument at or above zero; its derivative is infinite at zero",
  div: "keep the denominator away from zero",
  reciprocal: "keep the argument away from zero",
  exp: "subtract the maximum first, as softmax does",
  pow: "keep the base positive",
};

/** The checks to read now, and a verifier of what they say. */
export function takePendingChecks(): {
  readonly requests: readonly { readonly storage: Storage; readonly tensor: Tensor }[];
  verify(data: readonly HostData[]): void;
} {
  const checks = pending;
  pending = [];
  return {
    requests: checks.flatMap(({ requests }) => requests),
    verify(data) {
      let at = 0;
      for (const { label, ops } of checks) {
        for (const op of ops) {
          const [count, first] = [data[at++]![0]!, data[at++]![0]!];
          if (count > 0) throw nonFinite(label, op, count, first);
        }
      }
    },
  };
}

function nonFinite(label: string, op: Checked, count: number, first: number): NonFiniteError {
  const coordinates: number[] = [];
  let rest = first;
  for (const size of op.shape.toReversed()) {
    coordinates.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  const size = op.shape.reduce((product, n) => product * n, 1);
  return new NonFiniteError("numeric/non-finite", {
    summary: `Non-finite value in ${label}: first NaN or infinity in the output of ${op.name}`,
    facts: [
      ["op", `${op.description}, ${op.site}`],
      ["value", `${count} of ${size} elements, first at [${coordinates.join(", ")}]`],
      ["inputs", "all finite, or constants of the call, so the value was born here"],
    ],
    fix: HINTS[op.name] ?? "check the inputs of this op",
    details: { label, op: op.name, count, first: coordinates },
  });
}
