/**
 * What is static about a set of experts: sizes, body, and the nonlinearity as WGSL.
 *
 * @module
 */

/** The nonlinearity of an expert; gelu is the tanh form. */
export type ExpertActivation = "relu" | "gelu" | "silu";

/** What an expert computes: `"ffn"` is down(act(up(x))), `"glu"` is down(act(gate(x)) · up(x)). */
export type ExpertBody = "ffn" | "glu";

/** Static sizes and body of a set of experts. */
export interface ExpertShape {
  /** A. */
  readonly assignments: number;
  /** E. */
  readonly experts: number;
  /** D. */
  readonly width: number;
  /** F. */
  readonly inner: number;
  /** The nonlinearity. */
  readonly activation: ExpertActivation;
  /** What is computed. */
  readonly body: ExpertBody;
  /** Whether each product adds a bias. */
  readonly bias: boolean;
}

/** Whether there is something to compute; kernels do not take empty axes. */
export function hasElements({ assignments, experts, width, inner }: ExpertShape): boolean {
  return assignments * experts * width * inner > 0;
}

/** Name of a set of experts for people. */
export function labelOf({ assignments, experts, width, inner }: ExpertShape): string {
  return `${assignments} rows, ${experts} x ${width}x${inner}`;
}

/** WGSL functions `activate` and its derivative `slope`, on four numbers. */
export function activationText(activation: ExpertActivation): string {
  const V = "vec4<f32>";
  if (activation === "relu") {
    return `fn activate(z: ${V}) -> ${V} { return max(z, ${V}()); }\n` +
      `fn slope(z: ${V}) -> ${V} { return select(${V}(), ${V}(1.0), z > ${V}()); }\n`;
  }
  // The exponent is capped so that nothing is infinite on the way: WGSL may assume infinities away.
  const sigmoid = `fn sigmoid(x: ${V}) -> ${V} { return 1.0 / (1.0 + exp(min(-x, ${V}(80.0)))); }\n`;
  if (activation === "silu") {
    return `${sigmoid}fn activate(z: ${V}) -> ${V} { return z * sigmoid(z); }\n` +
      `fn slope(z: ${V}) -> ${V} { let s = sigmoid(z); return s * (1.0 + z * (1.0 - s)); }\n`;
  }
  // (1 + tanh u) / 2 = sigmoid(2 u): one exponential instead of a tanh. 1.5957691 = 2 sqrt(2 / pi).
  return `${sigmoid}fn inside(z: ${V}) -> ${V} { return 1.5957691 * (z + 0.044715 * z * z * z); }\n` +
    `fn activate(z: ${V}) -> ${V} { return z * sigmoid(inside(z)); }\n` +
    `fn slope(z: ${V}) -> ${V} { let s = sigmoid(inside(z));\n` +
    `return s + z * s * (1.0 - s) * 1.5957691 * (1.0 + 0.134145 * z * z); }\n`;
}
