/**
 * Checks of what a router is given: hidden states, ids, masks and the tensors that plans are made of.
 *
 * @module
 */
import { type DType, isFloat } from "../core/dtype.ts";
import { ConfigError, DTypeError, ShapeError } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { formatAval, sameShape, type Shape } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import type { RouteContext, Tokens } from "./plan_types.ts";

/** Types an argument may have: one, or any float. */
export type Accepted = DType | "float";

/**
 * Checks the shape and type of an argument.
 *
 * @param name How the caller knows it, such as `tokens.mask`.
 * @throws {ShapeError} If the shape differs.
 * @throws {DTypeError} If the type does.
 */
export function expectArgument(op: string, name: string, x: Tensor, shape: Shape, accepted: Accepted): Tensor {
  const details = { op, name, shape: x.shape, dtype: x.dtype };
  if (!sameShape(x.shape, shape)) {
    throw new ShapeError("shape/routing", {
      summary: `Cannot route: ${name} is ${formatAval(x)}, its shape should be [${shape.join(", ")}]`,
      facts: [["op", op]],
      fix: `pass ${name} with the shape [${shape.join(", ")}]`,
      details: { ...details, expected: shape },
    });
  }
  if (accepted === "float" ? isFloat(x.dtype) : x.dtype === accepted) return x;
  throw new DTypeError("dtype/routing", {
    summary: `Cannot route: ${name} is ${formatAval(x)}, its type should be ${accepted}`,
    facts: [["op", op]],
    fix: `cast it first: cast(x, "${accepted === "float" ? "f32" : accepted}")`,
    details: { ...details, expected: accepted },
  });
}

/**
 * Checks tokens and counts them.
 *
 * @returns T.
 * @throws {ShapeError} If shapes do not fit, or `sequenceLength` does not divide T.
 * @throws {DTypeError} If the hidden states are not floats, or the mask is not bool.
 */
export function expectTokens(op: string, { hidden, mask, sequenceLength }: Tokens): number {
  if (hidden.shape.length !== 2) {
    throw new ShapeError("shape/routing", {
      summary: `Cannot route: tokens.hidden is ${formatAval(hidden)}, it should be [tokens, width]`,
      facts: [["op", op]],
      fix: "flatten batch and sequence: reshape(hidden, [-1, width])",
      details: { op, name: "tokens.hidden", shape: hidden.shape },
    });
  }
  const tokens = hidden.shape[0]!;
  expectArgument(op, "tokens.hidden", hidden, hidden.shape, "float");
  if (mask !== undefined) expectArgument(op, "tokens.mask", mask, [tokens], "bool");
  if (sequenceLength !== undefined && !(Number.isInteger(sequenceLength) && tokens % sequenceLength === 0)) {
    throw new ShapeError("shape/sequence-length", {
      summary: `Cannot cut ${tokens} tokens into sequences of ${sequenceLength}`,
      facts: [["op", op], ["tokens.hidden", formatAval(hidden)]],
      fix: "pass the length to which sequences are padded, or leave sequenceLength out",
      details: { op, tokens, sequenceLength },
    });
  }
  return tokens;
}

/**
 * The key of a router that draws.
 *
 * @throws {ConfigError} If the context has none.
 */
export function expectKey(op: string, use: string, context: RouteContext): Key {
  if (context.key !== undefined) return context.key;
  throw new ConfigError("config/route-key", {
    summary: `Cannot route with ${op}: ${use} draws random numbers while training, and the context has no key`,
    fix: "pass { train: true, key } as context, with a key split for this call",
    details: { op, use },
  });
}
