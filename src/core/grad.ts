/**
 * Gradients and matrices of derivatives, in terms of forward and reverse mode.
 *
 * @module
 */
import { apply, isDifferentiable, sourceOf, Tensor, tracing } from "./tensor.ts";
import { alias, fullLike, identityPrimitive, reshapeTo, zerosLike } from "./arithmetic.ts";
import { callSite, DTypeError, ShapeError } from "./errors.ts";
import { definePrimitive, type Primitive } from "./primitive.ts";
import { formatAval } from "./shape.ts";
import { expectNoPromise } from "./trace.ts";
import { flatten, type MapLeaves } from "./tree.ts";
import { pullback } from "./vjp.ts";
import { vmap } from "./vmap.ts";

/** Which argument to differentiate, the first by default. */
export interface GradOptions {
  /** Number of the argument. */
  readonly argument?: number;
}

function expectScalarLoss(loss: unknown, transform: string): Tensor {
  if (!(loss instanceof Tensor) || loss.size !== 1 || !isDifferentiable(loss)) {
    const found = loss instanceof Tensor ? formatAval(loss) : typeof loss;
    const ErrorClass = loss instanceof Tensor && loss.size === 1 ? DTypeError : ShapeError;
    throw new ErrorClass("grad/scalar", {
      summary: `Cannot differentiate: the function must return one float, it returned ${found}`,
      facts: [["op", transform], ["at", callSite()]],
      fix: "reduce the loss with mean() or sum(); return extra values through valueAndGrad's aux",
    });
  }
  return loss;
}

/** Differentiates one argument of a function that returns a loss and something else. */
function lossAndGrad<A extends readonly unknown[], X>(
  f: (...args: A) => readonly [loss: Tensor, aux: X],
  args: A,
  argument: number,
  transform: string,
): { loss: Tensor; aux: X; grads: A[number] } {
  const flat = flatten(args[argument]);
  const own = flat.leaves.map(alias);
  const [result, aux] = tracing(transform, () => {
    const replaced = args.map((arg, i) => i === argument ? flat.rebuild(own) : arg);
    return expectNoPromise(transform, f(...replaced as unknown as A));
  });
  const loss = expectScalarLoss(result, transform);
  const found = pullback([loss], [fullLike(loss.shape, loss.dtype, 1)], own);
  return { loss, aux, grads: flat.rebuild(found.map((ct, i) => ct ?? zerosLike(own[i]!))) as A[number] };
}

/**
 * The gradient of a scalar function with respect to one argument, as a tree like that argument.
 *
 * Integer and boolean leaves get zeros of their own type. Apply it again for higher orders.
 *
 * @param f Function of trees that returns one float.
 * @returns A function of the same arguments.
 * @throws {ShapeError} If `f` does not return a single element.
 * @throws {DTypeError} If it returns an integer.
 *
 * @example The derivative of x³, twice
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, init, mul, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const cube = (x: Tensor) => mul(x, mul(x, x));
 * assertEquals(await grad(cube)(tensor(2)).item(), 12);
 * assertEquals(await grad(grad(cube))(tensor(2)).item(), 12);
 * ```
 */
export function grad<A extends readonly [unknown, ...unknown[]]>(f: (...args: A) => Tensor): (...args: A) => A[0];
/** The gradient with respect to the argument numbered in the options. */
export function grad<A extends readonly unknown[], N extends number>(
  f: (...args: A) => Tensor,
  options: { readonly argument: N },
): (...args: A) => A[N];
/** Implementation of both forms. */
export function grad<A extends readonly unknown[]>(
  f: (...args: A) => Tensor,
  { argument = 0 }: GradOptions = {},
): (...args: A) => A[number] {
  return (...args) => lossAndGrad((...inner: A) => [f(...inner), null] as const, args, argument, "grad").grads;
}

/** What {@linkcode valueAndGrad} returns: the loss, what else the function returned, and the gradients of its first argument. */
export interface ValueAndGrad<P, X> {
  /** The scalar that was differentiated. */
  readonly value: Tensor;
  /** Auxiliary outputs, not differentiated; null if the function returned only a loss. */
  readonly aux: X;
  /** Gradients, a tree like the first argument. */
  readonly grads: P;
}

/**
 * Value and gradient of a function in one evaluation. The function returns a loss, or a pair of the loss and any tree.
 *
 * @returns A function of the same arguments that returns `{ value, aux, grads }`.
 * @throws {ShapeError} If the loss is not a single element.
 *
 * @example Keeping the prediction beside the gradient
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, mul, square, type Tensor, tensor, valueAndGrad } from "@switchyard/switchyard";
 *
 * await init();
 * const step = valueAndGrad((w: Tensor, x: Tensor) => {
 *   const prediction = mul(w, x);
 *   return [square(prediction), prediction] as const;
 * });
 * const { value, aux, grads } = step(tensor(3), tensor(2));
 * assertEquals([await value.item(), await aux.item(), await grads.item()], [36, 6, 24]);
 * ```
 */
export function valueAndGrad<A extends readonly [unknown, ...unknown[]], X>(
  f: (...args: A) => readonly [loss: Tensor, aux: X],
): (...args: A) => ValueAndGrad<A[0], X>;
/** For a function that returns the loss alone. */
export function valueAndGrad<A extends readonly [unknown, ...unknown[]]>(
  f: (...args: A) => Tensor,
): (...args: A) => ValueAndGrad<A[0], null>;
/** Implementation of both forms. */
export function valueAndGrad<A extends readonly [unknown, ...unknown[]]>(
  f: (...args: A) => Tensor | readonly [loss: Tensor, aux: unknown],
): (...args: A) => ValueAndGrad<A[0], unknown> {
  return (...args) => {
    const { loss, aux, grads } = lossAndGrad(
      (...inner: A) => {
        const result = f(...inner);
        return Array.isArray(result) ? result as unknown as [Tensor, unknown] : [result as Tensor, null] as const;
      },
      args,
      0,
      "valueAndGrad",
    );
    return { value: loss, aux, grads };
  };
}

/**
 * All first derivatives of a function of one tree.
 *
 * @returns A function whose result has the structure of `f`'s result, each leaf replaced by a tree like the argument
 * with leaves of shape [...result shape, ...argument shape].
 *
 * @example The Jacobian of squaring is diagonal
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, jacobian, square, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await jacobian(square)(tensor([1, 2])).data()], [2, 0, 0, 4]);
 * ```
 */
export function jacobian<P, R>(f: (argument: P) => R): (argument: P) => MapLeaves<R, P> {
  return (argument) => {
    const flat = flatten(argument);
    const own = flat.leaves.map(alias);
    const outputs = flatten(tracing("jacobian", () => expectNoPromise("jacobian", f(flat.rebuild(own) as P))));
    const rows = outputs.leaves.map((output) => {
      const pullRow = vmap((ct: Tensor) =>
        pullback([output], [ct], own).map((found, i) => found ?? zerosLike(own[i]!)) as readonly Tensor[]
      );
      const basis = apply(identityPrimitive, [], { shape: [output.size, output.size], dtype: output.dtype });
      const cotangents = pullRow(reshapeTo(basis, [output.size, ...output.shape]));
      return flat.rebuild(cotangents.map((ct, i) => reshapeTo(ct, [...output.shape, ...own[i]!.shape])));
    });
    return outputs.rebuild(rows as Tensor[]) as MapLeaves<R, P>;
  };
}

/**
 * All second derivatives of a scalar function of one tree: the Jacobian of its gradient.
 *
 * @example The Hessian of a product
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { hessian, init, prod, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * assertEquals([...await hessian((x: Tensor) => prod(x))(tensor([2, 5])).data()], [0, 1, 1, 0]);
 * ```
 */
export function hessian<P>(f: (argument: P) => Tensor): (argument: P) => MapLeaves<P, P> {
  return jacobian((argument: P) => grad(f)(argument) as P);
}

/** Primitive behind {@linkcode stopGradient}. */
export const stopGradientPrimitive: Primitive = definePrimitive<null>({
  name: "stopGradient",
  kind: "discrete",
  shape: ([x]) => [x!],
  host: ([x]) => [x!],
  batch: ([x]) => [stopGradient(x!)],
  lower: { as: "view", linear: true, sources: (index) => [{ input: 0, index }], lanes: () => "contiguous" },
});

/** Passes a tree through and stops derivatives: its leaves count as constants. */
export function stopGradient<T>(tree: T): T {
  const flat = flatten(tree);
  return flat.rebuild(
    flat.leaves.map((leaf) =>
      isDifferentiable(leaf) && sourceOf(leaf).kind !== "host" ? apply(stopGradientPrimitive, [leaf]) : leaf
    ),
  ) as T;
}
