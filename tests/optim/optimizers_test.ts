import { assert, assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { flatten, leavesOf, mapTree } from "../../src/core/tree.ts";
import { mul, sub } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import {
  adafactor,
  adam,
  adamw,
  applyUpdates,
  chain,
  clipByGlobalNorm,
  cosineSchedule,
  type GradientTransform,
  type OptimizerState,
  sgd,
} from "../../src/optim/mod.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { assertClose } from "../support/tolerance.ts";
import { distance, everywhere, makeParams, type Params, SUBJECTS } from "./problem.ts";

type Leaves<T> = Readonly<Record<string, T>>;

interface GoldenRun {
  readonly name: string;
  // deno-lint-ignore no-explicit-any -- every optimizer has its own
  readonly options: any;
  readonly paramsAfterStep: readonly Leaves<GoldenTensor>[];
  readonly stateAfterLastStep: Leaves<Leaves<GoldenTensor>>;
}

interface Golden {
  readonly params: Leaves<GoldenTensor>;
  readonly target: Leaves<GoldenTensor>;
  readonly curvature: Leaves<GoldenTensor>;
  readonly optimizers: readonly GoldenRun[];
}

const golden = await readGolden<Golden>("optim.json");

/** Our optimizer for a run of optax. */
function optimizerOf({ name, options }: GoldenRun): GradientTransform {
  const { learningRate, momentum, beta1, beta2, epsilon, weightDecay, decayed, schedule } = options;
  const moments = { beta1, beta2, epsilon };
  if (name.startsWith("sgd")) {
    return sgd({ learningRate, momentum: momentum ?? 0, nesterov: options.nesterov ?? false });
  }
  if (name === "adam") return adam({ learningRate, ...moments });
  if (name.startsWith("adamw")) {
    return adamw({
      learningRate,
      weightDecay,
      ...moments,
      mask: (path) => decayed === undefined || decayed.includes(path.slice(1)),
    });
  }
  if (name.startsWith("clip")) {
    const { peak, warmupSteps, decaySteps, end } = schedule;
    const rate = cosineSchedule({ peak, warmupSteps, steps: decaySteps, finalFraction: end / peak });
    return chain(clipByGlobalNorm(options.maxNorm), adamw({ learningRate: rate, weightDecay, ...moments }));
  }
  return adafactor({
    learningRate,
    minFactoredSize: options.minDimSizeToFactor,
    decayRate: options.decayRate,
    multiplyByParameterScale: options.multiplyByParameterScale,
    clippingThreshold: options.clippingThreshold,
    momentum: momentum ?? 0,
    weightDecay: options.weightDecayRate ?? 0,
    epsilon,
  });
}

function fromGoldenTree(tree: Leaves<GoldenTensor>): Leaves<Tensor> {
  return Object.fromEntries(Object.entries(tree).map(([name, leaf]) => [name, fromGolden(leaf)]));
}

const TOLERANCE = { relative: 2e-5, absolute: 2e-6 };

for (const run of golden.optimizers) {
  everywhere(`${run.name} takes the steps that optax takes`, async () => {
    const [target, curvature] = [fromGoldenTree(golden.target), fromGoldenTree(golden.curvature)];
    const optimizer = optimizerOf(run);
    const step = jit((params: Leaves<Tensor>, state: OptimizerState) => {
      const grads = Object.fromEntries(
        Object.entries(params).map(([name, leaf]) => [name, mul(curvature[name]!, sub(leaf, target[name]!))]),
      );
      const [updates, next] = optimizer.update(grads, state, params);
      return [applyUpdates(params, updates), next] as const;
    });
    let params = fromGoldenTree(golden.params);
    let state: OptimizerState = optimizer.init(params);
    for (const [i, expected] of run.paramsAfterStep.entries()) {
      [params, state] = step(params, state);
      const found = await read(params);
      for (const [name, leaf] of Object.entries(expected)) {
        assertClose(found[name]!, leaf.data, TOLERANCE, `${name} after step ${i + 1}`);
      }
    }
    const kept = new Map(leavesOf(state).map(([path, leaf]) => [path.replace(/^\[\d+\]/, ""), leaf]));
    for (const [part, leaves] of Object.entries(run.stateAfterLastStep)) {
      for (const [name, leaf] of Object.entries(leaves)) {
        const ours = kept.get(`.${part}.${name}`);
        // optax fills what it does not use with tensors of one zero.
        if (ours === undefined) assertEquals([leaf.shape, leaf.data], [[1], [0]]);
        else assertClose(await ours.data(), leaf.data, TOLERANCE, `${part} of ${name}`);
      }
    }
  });
}

for (const { name, make, steps } of SUBJECTS) {
  everywhere(`${name} comes near the minimum, compiled once`, async () => {
    const target = makeParams(2);
    const optimizer = make();
    const step = jit((params: Params, state: OptimizerState) => {
      const grads = grad(distance)(params, target);
      const [updates, next] = optimizer.update(grads, state, params);
      return [applyUpdates(params, updates), next] as const;
    }, { donate: [0, 1] });
    let params = makeParams();
    let state = optimizer.init(params);
    const structures = new Set([flatten(state).structure]);
    const start = await distance(makeParams(), target).item();
    for (let i = 0; i < steps; i++) {
      [params, state] = step(params, state);
      structures.add(flatten(state).structure);
    }
    const end = await distance(params, target).item();
    assert(end < start / 500, `${start} became ${end} in ${steps} steps`);
    assertEquals(step.traces, 1);
    assertEquals(structures.size, 1, "the state keeps its structure");
    assertEquals([...await params.table.data()], [3, 0, 7]);
  });

  everywhere(`${name} keeps shapes and types, in half precision too`, async () => {
    const half = mapTree(makeParams(), (leaf) => leaf.dtype === "f32" ? cast(leaf, "bf16") : leaf);
    const optimizer = make();
    const grads = mapTree(half, (leaf) => leaf.dtype === "bf16" ? mul(leaf, 0.5) : leaf);
    const [updates, state] = optimizer.update(grads, optimizer.init(half), half);
    const avals = (tree: unknown) => leavesOf(tree).map(([path, { shape, dtype }]) => ({ path, shape, dtype }));
    assertEquals(avals(applyUpdates(half, updates)), avals(half));
    assertEquals(avals(state), avals(optimizer.init(half)));
    for (const [path, { dtype }] of leavesOf(state)) assertEquals(dtype, path.endsWith("count") ? "u32" : "f32");
    await read(applyUpdates(half, updates));
  });
}
