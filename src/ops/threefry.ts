/**
 * The random generator's primitives: the Threefry hash and what turns its bits into numbers. Keys and distributions
 * are built on them in `random.ts` and `samplers.ts`.
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; the values are those of JAX with
 * `jax_threefry_partitionable`.
 *
 * @module
 */
import { expectSameAvals, wgslLiteral } from "../core/arithmetic.ts";
import { hostFill, hostMap } from "../core/host.ts";
import { definePrimitive, type Primitive } from "../core/primitive.ts";
import { apply, type Tensor } from "../core/tensor.ts";

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]] as const;
const PARITY = 0x1bd11bda;
const GROUPS = 5;

function hash(k0: number, k1: number, c0: number, c1: number): readonly [number, number] {
  const schedule = [k0, k1, k0 ^ k1 ^ PARITY];
  let x = (c0 + k0) | 0;
  let y = (c1 + k1) | 0;
  for (let group = 0; group < GROUPS; group++) {
    for (const turn of ROTATIONS[group % 2]!) {
      x = (x + y) | 0;
      y = ((y << turn) | (y >>> (32 - turn))) ^ x;
    }
    x = (x + schedule[(group + 1) % 3]!) | 0;
    y = (y + schedule[(group + 2) % 3]! + group + 1) | 0;
  }
  return [x >>> 0, y >>> 0];
}

/** Which part of the hash to keep: one of its two words, or both combined, as random bits are. */
export type HashWord = 0 | 1 | "xor";

const WORD_EXPRESSIONS = { 0: "x", 1: "y", xor: "x ^ y" } as const;

function hashFunction(word: HashWord, lanes: number, t: string): string {
  const rounds = Array.from({ length: GROUPS }, (_, group) =>
    [
      ...ROTATIONS[group % 2]!.map((turn) => `x += y; y = ((y << ${t}(${turn}u)) | (y >> ${t}(${32 - turn}u))) ^ x;`),
      `x += k${(group + 1) % 3}; y += k${(group + 2) % 3} + ${t}(${group + 1}u);`,
    ].join("\n  "));
  return `fn threefry_${word}_${lanes}(k0: ${t}, k1: ${t}, c0: ${t}, c1: ${t}) -> ${t} {
  let k2 = k0 ^ k1 ^ ${t}(${PARITY}u);
  var x = c0 + k0;
  var y = c1 + k1;
  ${rounds.join("\n  ")}
  return ${WORD_EXPRESSIONS[word]};
}`;
}

/** Primitive behind random keys and bits: threefry2x32 of a key (k0, k1) and a counter (c0, c1), element by element. */
export const threefryPrimitive: Primitive = definePrimitive<{ word: HashWord }>({
  name: "threefry",
  kind: "discrete",
  shape: (inputs) => [expectSameAvals("threefry", inputs)],
  host: (inputs, { word }) => [
    hostMap(inputs, (k0, k1, c0, c1) => {
      const [x, y] = hash(k0!, k1!, c0!, c1!);
      return word === "xor" ? x ^ y : word === 0 ? x : y;
    }),
  ],
  lower: {
    as: "expr",
    cost: 80,
    wgsl: (args, { word }, { lanes }) => `threefry_${word}_${lanes}(${args.join(", ")})`,
    prelude: ({ lanes, t }, { word }) => hashFunction(word, lanes, t),
  },
});

/** Part of the hash of keys and counters, all u32 of one shape. */
export function threefry(k0: Tensor, k1: Tensor, c0: Tensor, c1: Tensor, word: HashWord): Tensor {
  return apply(threefryPrimitive, [k0, k1, c0, c1], { word });
}

const UNIT = 2 ** -23;

/**
 * Primitive behind `uniform`: the upper 23 bits as a fraction of [0, 1), scaled to [min, min + span) in one rounding.
 * The fractions are multiples of 2^-23, so that the conversion is exact.
 */
export const uniformFromBitsPrimitive: Primitive = definePrimitive<{ min: number; span: number }>({
  name: "uniformFromBits",
  kind: "discrete",
  shape: ([bits]) => [{ shape: bits!.shape, dtype: "f32" }],
  host: ([bits], { min, span }) => [
    hostFill({ shape: bits!.shape, dtype: "f32" }, (i) => Math.max(min, (bits!.data[i]! >>> 9) * UNIT * span + min)),
  ],
  lower: {
    as: "expr",
    cost: 2,
    wgsl([bits], { min, span }, { t, inputs }) {
      const fraction = `(${t}(${bits} >> ${inputs[0]}(9u)) * ${t}(${UNIT}))`;
      if (min === 0 && span === 1) return fraction;
      const low = `${t}(${wgslLiteral(min, "f32")})`;
      return `max(${low}, fma(${fraction}, ${t}(${wgslLiteral(span, "f32")}), ${low}))`;
    },
  },
});

/** f32 in [min, max) from random bits. */
export function uniformFromBits(bits: Tensor, min: number, max: number): Tensor {
  const low = Math.fround(min);
  return apply(uniformFromBitsPrimitive, [bits], { min: low, span: Math.fround(Math.fround(max) - low) });
}

interface RangeAttrs {
  readonly min: number;
  readonly span: number;
  readonly carry: number;
  readonly dtype: "i32" | "u32";
}

/**
 * Primitive behind `randomInt`: two words of bits to an integer of a range. `carry` is what the upper word counts
 * modulo the span: 2^32 modulo a span of at most 2^16, and 0 for larger ones, where the square wraps as in JAX.
 */
export const integerFromBitsPrimitive: Primitive = definePrimitive<RangeAttrs>({
  name: "integerFromBits",
  kind: "discrete",
  shape: ([high], { dtype }) => [{ shape: high!.shape, dtype }],
  host: ([high, low], { min, span, carry, dtype }) => [
    hostMap(
      [high!, low!],
      (h, l) => min + ((Math.imul(h! % span, carry) + l! % span) >>> 0) % span,
      dtype,
    ),
  ],
  lower: {
    as: "expr",
    cost: 20,
    wgsl([high, low], { min, span, carry }, { t, inputs }) {
      const u = inputs[0]!;
      const size = `${u}(${span}u)`;
      return `(${t}(((${high} % ${size}) * ${u}(${carry}u) + ${low} % ${size}) % ${size}) + ${t}(${
        wgslLiteral(min, t.includes("i32") ? "i32" : "u32")
      }))`;
    },
  },
});

/** Integers in [min, max) from two tensors of random bits; `min` everywhere if the range is empty. */
export function integerFromBits(high: Tensor, low: Tensor, min: number, max: number, dtype: "i32" | "u32"): Tensor {
  const span = max > min ? (max - min) >>> 0 : 1;
  const half = 2 ** 16 % span;
  const carry = (Math.imul(half, half) >>> 0) % span;
  return apply(integerFromBitsPrimitive, [high, low], { min, span, carry, dtype });
}
