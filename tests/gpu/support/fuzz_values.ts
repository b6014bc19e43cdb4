/**
 * Values of random programs, and what makes operands of an op out of any two of them.
 *
 * @module
 */
import { isFloat } from "../../../src/core/dtype.ts";
import type { Tensor } from "../../../src/core/tensor.ts";
import { cast, full, mean } from "../../../src/ops/mod.ts";

/** A value of a random program. */
export interface FuzzValue {
  /** The tensor. */
  readonly tensor: Tensor;
  /** Whether every device computes exactly this value, so that comparing and rounding it is safe. */
  readonly exact: boolean;
  /** Largest magnitude it can have; kept small, because what cancels loses digits. */
  readonly bound: number;
}

/** Draws from an instruction's numbers. */
export interface Draw {
  /** A whole number in 0..count-1. */
  (count: number): number;
}

/** An op: its result, and how it prints after its name. */
export type FuzzOp = (x: FuzzValue, y: FuzzValue, draw: Draw) => { value: FuzzValue; text: string } | null;

/** Larger results are not made. */
const MAX_SIZE = 2048;

/** The value that an op made; null where it is too large. */
export function made(tensor: Tensor, bound: number, exact: boolean, text = ""): ReturnType<FuzzOp> {
  return tensor.size > MAX_SIZE ? null : { value: { tensor, exact, bound }, text };
}

/** A float version of a value; exact numbers stay exact. */
export function asFloat({ tensor, exact, bound }: FuzzValue): FuzzValue {
  return { tensor: isFloat(tensor.dtype) ? tensor : cast(tensor, "f32"), exact, bound };
}

/** Whether a value is of whole numbers. */
export function isInteger({ tensor: { dtype } }: FuzzValue): boolean {
  return dtype === "i32" || dtype === "u32";
}

/** y as it is if it broadcasts with x, else reduced to one element, which always does. */
export function beside(x: FuzzValue, y: FuzzValue): FuzzValue {
  const [a, b] = [x.tensor.shape.toReversed(), y.tensor.shape.toReversed()];
  const fits = b.every((n, i) => n === 1 || a[i] === undefined || a[i] === 1 || a[i] === n);
  return fits
    ? y
    : { tensor: mean(asFloat(y).tensor.size === 0 ? full([1], 1) : asFloat(y).tensor), exact: false, bound: y.bound };
}
