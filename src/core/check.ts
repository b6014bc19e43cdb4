/**
 * Check mode: counts what is not finite in the output of every op without being so in its inputs, and names the first op
 * to blame at the next read. An infinity may pass through (a mask that is added to scores); what makes one, or makes
 * it NaN, is to blame.
 *
 * The counts ride along with that read, so a checked step has no extra round trip and works with donation.
 *
 * @module
 */
import { castTo, expandTo, iota, reshapeTo, sumOver } from "./arithmetic.ts";
import { type HostData, isFloat } from "./dtype.ts";
import { NonFiniteError } from "./errors.ts";
import { coordinatesOf, hostMap, hostReduce } from "./host.ts";
import { definePrimitive, type Primitive } from "./primitive.ts";
import type { Runtime, Storage } from "./runtime.ts";
import { type Aval, formatAval, sizeOf } from "./shape.ts";
import { apply, type OpNode, type Tensor } from "./tensor.ts";
import { nodesBehind } from "./walk.ts";

/** How bad an element is: 0 finite, 1 infinite, 2 NaN. */
const severityPrimitive: Primitive = definePrimitive<null>({
  name: "severity",
  kind: "discrete",
  shape: ([x]) => [{ shape: x!.shape, dtype: "u32" }],
  host: ([x]) => [hostMap([x!], (v) => Number.isNaN(v) ? 2 : Number.isFinite(v) ? 0 : 1, "u32")],
  // Exponent bits: comparing a value with itself is false for NaN on some adapters, as WGSL permits.
  lower: {
    as: "expr",
    cost: 4,
    wgsl: ([x], _, { t }) => {
      const bits = `(bitcast<${t}>(${x}) & ${t}(0x7fffffffu))`;
      return `(select(${t}(0), ${t}(1), ${bits} >= ${t}(0x7f800000u)) + select(${t}(0), ${t}(1), ${bits} > ${t}(0x7f800000u)))`;
    },
  },
});

/** Whether the first is worse than all others: what is not finite was born here. */
const bornPrimitive: Primitive = definePrimitive<null>({
  name: "born",
  kind: "discrete",
  shape: ([x]) => [x!],
  host: (all) => [hostMap(all, (own, ...others) => others.every((other) => own > other) && own > 0 ? 1 : 0, "u32")],
  lower: {
    as: "expr",
    wgsl: ([own, ...others], _, { t }) => {
      const worst = others.reduce((worst, other) => `max(${worst}, ${other})`, `${t}(0)`);
      return `select(${t}(0), ${t}(1), ${own} > ${worst})`;
    },
  },
});

/** The worst of all elements. */
const worstPrimitive: Primitive = definePrimitive<null>({
  name: "worst",
  kind: "discrete",
  shape: () => [{ shape: [], dtype: "u32" }],
  host: ([x]) => [hostReduce(x!, [0], 0, Math.max)],
  lower: { as: "reduce", axes: () => [0], identity: () => "0u", combine: (a, b) => `max(${a}, ${b})` },
});

const firstIndexPrimitive: Primitive = definePrimitive<null>({
  name: "firstIndex",
  kind: "discrete",
  shape: () => [{ shape: [], dtype: "u32" }],
  host: ([x]) => [hostReduce(x!, [0], 0xffffffff, Math.min)],
  lower: { as: "reduce", axes: () => [0], identity: () => "0xffffffffu", combine: (a, b) => `min(${a}, ${b})` },
});

/** What a check tells of one value. */
interface Checked {
  /** What made it: the name of an op, or of an argument of the call. */
  readonly name: string;
  readonly aval: Aval;
  /** Where it comes from, for an op; absent for an argument. */
  readonly op?: { readonly description: string; readonly site: string };
}

/** An argument of a checked function. */
export interface CheckedArgument {
  /** The placeholder that stands for it. */
  readonly tensor: Tensor;
  /** Its name in messages. */
  readonly name: string;
}

/** Extra outputs of a checked function, and what they mean. */
export interface FiniteCheck {
  /** Two scalars for each checked value: how many elements are not finite, and the first such index. */
  readonly outputs: readonly Tensor[];
  /** The values, in the order of `outputs`. */
  readonly values: readonly Checked[];
}

/**
 * Builds the counts for the float arguments, and for every float value behind some outputs that an op computes. Ops that
 * only move elements make none, and a constant that is not finite is meant to be so: masks of -Infinity pass, chosen or
 * added.
 */
export function buildFiniteCheck(args: readonly CheckedArgument[], outputs: readonly Tensor[]): FiniteCheck {
  const counted: Tensor[] = [];
  const values: Checked[] = [];
  function severity(value: Tensor): Tensor {
    return apply(severityPrimitive, [reshapeTo(castTo(value, "f32"), [value.size])]);
  }
  /** Element by element where the op goes so, otherwise the worst of an input for all elements. */
  function severityFor(value: Tensor, input: Tensor, isElementwise: boolean): Tensor {
    const own = severity(input);
    if (isElementwise) return own;
    return expandTo(reshapeTo(apply(worstPrimitive, [own]), [1]), [value.size]);
  }
  function count(
    value: Tensor,
    name: string,
    from: readonly Tensor[],
    isElementwise: boolean,
    op?: Checked["op"],
  ): void {
    if (!isFloat(value.dtype) || value.size === 0) return;
    const given = from.filter((input) => isFloat(input.dtype) && input.size > 0);
    const flags = apply(bornPrimitive, [
      severity(value),
      ...given.map((input) => severityFor(value, input, isElementwise)),
    ]);
    const index = iota([value.size], "u32", 0);
    // Finite elements get an index past the end, so that the minimum is the first culprit.
    const place = apply(placeOfPrimitive, [flags, index]);
    counted.push(sumOver(flags, [0]), apply(firstIndexPrimitive, [place]));
    values.push({ name, aval: { shape: value.shape, dtype: value.dtype }, ...(op === undefined ? {} : { op }) });
  }
  for (const { tensor, name } of args) count(tensor, name, [], true);
  for (const node of nodesBehind(outputs)) {
    const { primitive, site = "unknown" } = node;
    if (node.inputs.length === 0 || primitive.lower.as === "view" || primitive.name === "where") continue;
    const isElementwise = primitive.lower.as === "expr";
    for (const value of node.outputs) {
      count(value, primitive.name, node.inputs, isElementwise, { description: describe(node), site });
    }
  }
  return { outputs: counted, values };
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
  /** Where the counts are; a check dies with its device. */
  readonly runtime: Runtime;
  /** The function, and which call of it. */
  readonly label: string;
  readonly values: readonly Checked[];
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

/** The checks to read now on a runtime, and a verifier of what they say. */
export function takePendingChecks(runtime: Runtime | null): {
  readonly requests: readonly { readonly storage: Storage; readonly tensor: Tensor }[];
  verify(data: readonly HostData[]): void;
} {
  const checks = pending.filter((check) => check.runtime === runtime);
  pending = [];
  return {
    requests: checks.flatMap(({ requests }) => requests),
    verify(data) {
      let at = 0;
      for (const { label, values } of checks) {
        for (const value of values) {
          const [count, first] = [data[at++]![0]!, data[at++]![0]!];
          if (count > 0) throw nonFinite(label, value, count, first);
        }
      }
    },
  };
}

function nonFinite(label: string, { name, aval, op }: Checked, count: number, first: number): NonFiniteError {
  const place = coordinatesOf(first, aval.shape);
  const value = `${formatAval(aval)}, ${count} of ${sizeOf(aval.shape)} elements, first at [${place.join(", ")}]`;
  const details = { label, ...(op === undefined ? { argument: name } : { op: name }), count, first: place };
  if (op === undefined) {
    return new NonFiniteError("numeric/non-finite", {
      summary: `Non-finite value in ${label}: NaN or infinity in an argument, before the call`,
      facts: [["tensor", name], ["value", value]],
      fix: "look where this argument was computed",
      details,
    });
  }
  return new NonFiniteError("numeric/non-finite", {
    summary: `Non-finite value in ${label}: first NaN or infinity in the output of ${name}`,
    facts: [
      ["op", `${op.description}, ${op.site}`],
      ["value", value],
      ["inputs", "nothing of the kind in them, so it was born here"],
    ],
    fix: HINTS[name] ?? "check the inputs of this op",
    details,
  });
}
