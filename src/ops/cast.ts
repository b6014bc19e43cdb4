/**
 * Converting between element types.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { DType } from "../core/dtype.ts";
import type { Tensor } from "../core/tensor.ts";

/**
 * Converts a tensor to another element type; the same tensor if it has that type.
 *
 * Floats truncate toward zero when they become integers (out of range is undefined), integers wrap, and anything but 0
 * becomes true. Gradients flow between float types.
 *
 * @example Truncation
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cast, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await cast(tensor([1.9, -1.9]), "i32").data()], [1, -1]);
 * ```
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  return castTo(x, dtype);
}
