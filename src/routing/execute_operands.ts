/**
 * The operands of the fused op by name. A primitive takes a list, some of whose places depend on the body; this module
 * alone knows the order.
 *
 * @module
 */
import type { ExpertActivation, ExpertBody, ExpertShape } from "./execute_shape.ts";

/** Static settings of the fused op. */
export interface ExecuteAttrs {
  /** The nonlinearity. */
  readonly activation: ExpertActivation;
  /** What an expert computes. */
  readonly body: ExpertBody;
  /** Whether every product adds a bias. */
  readonly bias: boolean;
  /** Assignments of every token, or null where `tokenOffsets` has them. */
  readonly perToken: number | null;
  /** What the forward pass keeps for the backward. */
  readonly keeps: "preactivation" | "nothing";
}

/**
 * Operands by name: tensors while a graph is built, buffers while a kernel is. `weight` is f32; every other float operand
 * has a type of its own, and kernels load it as f32.
 */
export interface ExecuteOperands<T> {
  /** Tokens, [T, D]. */
  readonly hidden: T;
  /** Weight of each assignment, [A]. */
  readonly weight: T;
  /** First row of each expert and the end, u32[E + 1]. */
  readonly expertOffsets: T;
  /** Token of each row, u32[A]. */
  readonly rowToken: T;
  /** Assignment of each row, u32[A]. */
  readonly rowAssign: T;
  /** Row of each assignment, u32[A]. */
  readonly assignRow: T;
  /** [E, D, F]. */
  readonly up: T;
  /** [E, F, D]. */
  readonly down: T;
  /** [E, D, F], of the gated body. */
  readonly gate?: T;
  /** [E, F], with biases. */
  readonly upBias?: T;
  /** [E, D], with biases. */
  readonly downBias?: T;
  /** [E, F], of the gated body with biases. */
  readonly gateBias?: T;
  /** First assignment of each token and the end, u32[T + 1], where tokens have different numbers. */
  readonly tokenOffsets?: T;
}

/** Name of an operand. */
export type OperandName = keyof ExecuteOperands<unknown>;

/** Places of the float operands whose casts the kernels take in; `weight` is small, and indices are never cast. */
export const CAST_PLACES: readonly number[] = [0, 6, 7, 8, 9, 10, 11];

/**
 * Places of the matrices and biases. Rounded copies of all experts for all layers would need half of what mixed precision
 * saves elsewhere, so kernels round them where they load them.
 */
export const PARAMETER_PLACES: readonly number[] = CAST_PLACES.slice(1);

/** The operands in the order of the list. */
export function operandNames({ body, bias, perToken }: ExecuteAttrs): readonly OperandName[] {
  const isGated = body === "glu";
  return [
    "hidden",
    "weight",
    "expertOffsets",
    "rowToken",
    "rowAssign",
    "assignRow",
    "up",
    "down",
    ...(isGated ? ["gate"] as const : []),
    ...(bias ? ["upBias", "downBias"] as const : []),
    ...(isGated && bias ? ["gateBias"] as const : []),
    ...(perToken === null ? ["tokenOffsets"] as const : []),
  ];
}

/** Names a list. Members after the named ones are left out. */
export function named<T>(list: readonly T[], attrs: ExecuteAttrs): ExecuteOperands<T> {
  const entries = operandNames(attrs).map((name, i) => [name, list[i]!] as const);
  return Object.fromEntries(entries) as unknown as ExecuteOperands<T>;
}

/** Lists what is named; a name that is missing gives null. */
export function listed<T>(operands: { readonly [K in OperandName]?: T }, attrs: ExecuteAttrs): (T | null)[] {
  return operandNames(attrs).map((name) => operands[name] ?? null);
}

/** Static sizes, from the operands' shapes. */
export function expertShape(
  { up, rowToken }: ExecuteOperands<{ readonly shape: readonly number[] }>,
  { activation, body, bias }: ExecuteAttrs,
): ExpertShape {
  const [experts, width, inner] = up.shape as readonly [number, number, number];
  return { assignments: rowToken.shape[0]!, experts, width, inner, activation, body, bias };
}

/** Whether kernels store what has an axis D or F four elements at a time. */
export function storesFours({ hidden, up }: ExecuteOperands<{ readonly shape: readonly number[] }>): boolean {
  return hidden.shape[1]! % 4 === 0 && up.shape[2]! % 4 === 0;
}

/** Columns of the pre-activations: F, or the gate's F before them. */
export function preactivationWidth({ inner, body }: ExpertShape): number {
  return body === "glu" ? 2 * inner : inner;
}
