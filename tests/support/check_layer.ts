/**
 * One call that checks a layer: the shapes of its parameters, purity of its initialization, derivatives with respect to
 * parameters and input, batching, kernels against the float64 oracle, and that it compiles once.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { isFloat } from "../../src/core/dtype.ts";
import { jit } from "../../src/core/jit.ts";
import { formatAval } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { flatten, leavesOf } from "../../src/core/tree.ts";
import type { Layer, LayerContext } from "../../src/layers/layer.ts";
import { key } from "../../src/ops/random.ts";
import { checkOnGpu, checkOnOracle, type InputSpec, type OpCheck, type Tolerance } from "./check_primitive.ts";
import { randomSource } from "./random.ts";
import { gpuTest, oracleTest, withOracle } from "./runtimes.ts";
import { drawInput, toTensorOf } from "./samples.ts";

/** A layer and how to check it. */
export interface LayerCheck<P, X, Y> {
  /** The layer. */
  readonly layer: Layer<P, X, Y>;
  /** Its name, which says the sizes that matter. */
  readonly name: string;
  /** Every parameter by path, such as `{ ".weight": "f32[3, 5]" }`. */
  readonly params: Readonly<Record<string, string>>;
  /** The tensors of an input. Odd, unequal sizes find swapped axes. */
  readonly inputs: readonly InputSpec[];
  /** Makes the layer's input from those tensors; by default it is the only one. */
  readonly input?: (...tensors: Tensor[]) => X;
  /** Picks the tensors to check from the output; by default it is one. */
  readonly output?: (output: Y) => readonly Tensor[];
  /** What the layer depends on besides. */
  readonly context?: () => LayerContext;
  /** False leaves derivatives out, say of a layer that chooses. */
  readonly differentiable?: boolean;
  /** Allowed difference between kernels and oracle. */
  readonly tolerance?: Tolerance;
}

/** Registers the tests of a layer. Call it at the top level of a test file. */
export function checkLayer<P, X, Y>(check: LayerCheck<P, X, Y>): void {
  const { layer, name, params } = check;
  oracleTest(`${name} names its sizes and initializes the parameters it documents`, async () => {
    assertEquals(layer.name, name);
    const shapes = leavesOf(layer.init(key(1))).map(([path, leaf]) => [path, formatAval(leaf)]);
    assertEquals(Object.fromEntries(shapes), params);
    assertEquals(await valuesOf(layer, 5), await valuesOf(layer, 5));
  });
  oracleTest(`${name} has the derivatives and batches of its definition`, async () => checkOnOracle(await asOp(check)));
  gpuTest(`${name} has kernels that agree with its definition`, async () => {
    await checkOnGpu(await withOracle(() => asOp(check)));
  });
  gpuTest(`${name} is traced once for one shape`, async () => {
    const random = randomSource(7);
    const { fn, samples } = await withOracle(() => asOp(check));
    const compiled = jit((...tensors: Tensor[]) => fn(...tensors));
    for (let call = 0; call < 3; call++) {
      compiled(...samples[0]!.inputs.map((spec) => toTensorOf(drawInput(spec, random))));
    }
    assertEquals(compiled.traces, 1);
  });
}

async function valuesOf<P, X, Y>(layer: Layer<P, X, Y>, seed: number): Promise<readonly unknown[]> {
  return await Promise.all(flatten(layer.init(key(seed))).leaves.map((leaf) => leaf.data()));
}

/** The layer as a function of the leaves of its parameters, then its input's tensors. */
async function asOp<P, X, Y>(check: LayerCheck<P, X, Y>): Promise<OpCheck> {
  const { layer, name, inputs, context, differentiable = true, tolerance } = check;
  const initial = flatten(layer.init(key(1)));
  const drawn = await Promise.all(initial.leaves.map((leaf) => leaf.data()));
  // Parameters that start at 0 or 1 would hide mistakes: everything is moved off its start.
  const random = randomSource(3);
  const specs = initial.leaves.map(({ shape, dtype }, i): InputSpec => ({
    shape,
    dtype,
    data: Array.from(drawn[i]!, (value) => isFloat(dtype) ? value + random.uniform(-0.3, 0.3) : value),
  }));
  function fn(...tensors: Tensor[]): readonly Tensor[] {
    const params = initial.rebuild(tensors.slice(0, specs.length)) as P;
    const own = tensors.slice(specs.length);
    const x = check.input === undefined ? own[0] as X : check.input(...own);
    const y = layer.apply(params, x, context?.());
    return check.output === undefined ? [y as Tensor] : check.output(y);
  }
  return {
    name,
    fn,
    samples: [{ inputs: [...specs, ...inputs], differentiable }],
    ...(tolerance === undefined ? {} : { tolerance }),
  };
}
