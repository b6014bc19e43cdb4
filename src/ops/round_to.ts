/**
 * Rounding to half precision at one place of a program.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { roundTo as rounded } from "../core/dtype.ts";
import { hostMap } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";
import { bitsType, wgslIsNaN } from "./elementwise.ts";
import { expectFloat } from "./operand.ts";

/** A float type with 16 bits. */
export type HalfType = "f16" | "bf16";

/** Nearest bf16 of WGSL's f32, ties to even, as f32. */
function wgslNearestBf16(x: string, t: string): string {
  const bits = bitsType(t);
  const word = `bitcast<${bits}>(${x})`;
  const one = `((${word} >> ${bits}(16u)) & ${bits}(1u))`;
  const nearest = `bitcast<${t}>((${word} + ${bits}(0x7fffu) + ${one}) & ${bits}(0xffff0000u))`;
  // Rounding up may carry a NaN into another number.
  return `select(${nearest}, ${x}, ${wgslIsNaN(x, t)})`;
}

/** Primitive behind {@linkcode roundTo}. */
export const roundToPrimitive: Primitive = definePrimitive<{ dtype: HalfType }>({
  name: "roundTo",
  kind: "linear",
  shape: ([x], { dtype }) => [{ shape: x!.shape, dtype }],
  host: ([x], { dtype }) => [hostMap([x!], (value) => rounded(dtype, value), dtype)],
  transpose: ([ct], [x]) => [castTo(ct!, x!.dtype)],
  lower: {
    as: "expr",
    stored: true,
    // Readers in the same kernel get this value; storing it rounds no further.
    wgsl: ([x], { dtype }, { t }) => dtype === "f16" ? `quantizeToF16(${x})` : wgslNearestBf16(x!, t),
  },
});

/**
 * Rounds floats to the nearest number of a half-precision type, ties to even, and stores them in it.
 *
 * `cast` says which type a value has, and rounds only where the program happens to store the value; what stays inside a
 * kernel keeps its f32. This rounds right here, and takes a buffer of the narrow type, which kernels then read. Gradients
 * pass as they are. A tensor of that type is returned itself.
 *
 * @param dtype `"bf16"`, or `"f16"` where the adapter has it; f16 overflows past 65504.
 * @throws {DTypeError} If `x` is not a float tensor.
 *
 * @example bf16 has eight bits of precision
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cast, init, roundTo, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const near = cast(roundTo(tensor([1, 1.003, 1.005]), "bf16"), "f32");
 * assertEquals([...await near.data()], [1, 1, 1.0078125]);
 * ```
 */
export function roundTo(x: Tensor, dtype: HalfType): Tensor {
  expectFloat("roundTo", x);
  return x.dtype === dtype ? x : apply(roundToPrimitive, [x], { dtype });
}
