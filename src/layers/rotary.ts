/**
 * Rotary positions: pairs of channels turn by an angle that grows with the position, so that the product of a query and a
 * key depends on their distance alone. Pairs are channel i and i + C/2 ("rotate half").
 *
 * Angles are kept as 32-bit fractions of a turn: their product with a position wraps around without rounding, so late
 * positions see distances as exactly as early ones, and sine and cosine get angles from -π to π, where adapters are
 * accurate. The table depends on shapes and positions alone, so one program computes it once for all its layers.
 *
 * @module
 */
import { castTo, iota, times } from "../core/arithmetic.ts";
import { ShapeError } from "../core/errors.ts";
import { formatAval } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { type AngleTables, turn } from "../ops/attention_rotary.ts";
import { mul } from "../ops/binary.ts";
import { cast } from "../ops/cast.ts";
import { cos, exp, sin } from "../ops/unary.ts";
import { broadcastTo, unsqueeze } from "../ops/view.ts";

/** Parts of a turn that a u32 counts. */
const TURN = 2 ** 32;

/** Options of {@linkcode rotary}. */
export interface RotaryOptions {
  /** The slowest pair turns about this many times slower than the fastest; 10000 by default. */
  readonly base?: number;
}

/** Angle of each pair at each position, f32 [..., half] in -π..π. */
function anglesAt(positions: Tensor, half: number, base: number): Tensor {
  // Pair i turns by base^(-i / half) radians a step.
  const radians = exp(mul(iota([half], "f32", 0), -Math.log(base) / half));
  const partsOfTurn = castTo(mul(radians, TURN / (2 * Math.PI)), "u32"); // [half]
  const shape = [...positions.shape, half];
  const phase = times(broadcastTo(unsqueeze(cast(positions, "u32"), -1), shape), broadcastTo(partsOfTurn, shape));
  // Read as i32, the second half of the turn is negative.
  return mul(castTo(castTo(phase, "i32"), "f32"), (2 * Math.PI) / TURN);
}

/**
 * Cosines and sines by which channels turn at each position.
 *
 * @param positions Integers [..., S].
 * @param half Pairs of channels.
 * @returns Two tables [..., S, half].
 */
export function rotaryTables(positions: Tensor, half: number, { base = 10000 }: RotaryOptions = {}): AngleTables {
  const angles = anglesAt(positions, half, base);
  return { cos: cos(angles), sin: sin(angles) };
}

/**
 * Turns the channels of each position by the position's angles.
 *
 * Shapes: `x` [..., S, H, C] with an even C, `positions` integers [S], or [..., S] where they differ between sequences
 * -> like `x`. Computed in f32 for every float type and rounded once. Position 0 is left as it is.
 *
 * @returns A tensor like `x`.
 * @throws {ShapeError} If C is odd or the positions do not fit.
 *
 * @example Position 0 does not move, and lengths stay
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, init, rotary, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const turned = await rotary(tensor([[[3, 4]], [[3, 4]]]), arange(2)).data();
 * assertEquals([...turned.slice(0, 2)], [3, 4]);
 * assertEquals(Math.round(Math.hypot(turned[2]!, turned[3]!)), 5);
 * ```
 *
 * Source: Su et al. 2021; the pairing is that of GPT-NeoX and Llama.
 */
export function rotary(x: Tensor, positions: Tensor, { base = 10000 }: RotaryOptions = {}): Tensor {
  const [channels, leading] = [x.shape.at(-1) ?? 1, x.shape.slice(0, -2)];
  const isShared = positions.shape.length === 1;
  const fits = isShared ? positions.shape[0] === leading.at(-1) : String(positions.shape) === String(leading);
  if (x.shape.length < 3 || channels % 2 !== 0 || !fits) {
    throw new ShapeError("shape/rotary", {
      summary: `Cannot rotate ${formatAval(x)} by positions ${formatAval(positions)}`,
      facts: [["op", "rotary(x, positions)"]],
      fix: "use x [..., S, H, C] with an even C, and one position for each of S",
      details: { x: x.shape, positions: positions.shape },
    });
  }
  return turn(x, rotaryTables(positions, channels / 2, { base }));
}
