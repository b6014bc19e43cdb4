/**
 * One call that checks what every router owes: plans that hold together, derivatives through weights and losses alone,
 * padding without influence, and the same plan again for the same key, on the device as in the definition.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { isFloat } from "../../src/core/dtype.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { leavesOf, mapTree } from "../../src/core/tree.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "../../src/routing/plan_types.ts";
import { type RandomSource, randomSource } from "./random.ts";
import { gpuTest, oracleTest, withOracle } from "./runtimes.ts";
import { assertClose, toleranceFor } from "./tolerance.ts";

/** A router and how to check it. */
export interface RouterCheck<P> {
  /** Name in test titles. */
  readonly name: string;
  /** The router. */
  readonly router: Router<P>;
  /** Width of the hidden states. */
  readonly width: number;
  /** Ids below this accompany the hidden states; none by default. */
  readonly vocabulary?: number;
  /** Tokens of a sequence in the largest sample; all of them by default. */
  readonly sequenceLength?: number;
  /** Parameters to check with, those of `init(key(0))` by default. */
  readonly params?: () => P;
  /** Paths of float parameters that only a reducer moves: they have no gradient. */
  readonly frozen?: readonly string[];
}

/** Numbers of a plan on the host. */
export interface PlanData {
  /** T. */
  readonly tokens: number;
  /** E. */
  readonly experts: number;
  /** A. */
  readonly assignments: number;
  /** u32[E + 1]. */
  readonly expertOffsets: readonly number[];
  /** u32[A]. */
  readonly rowToken: readonly number[];
  /** u32[A]. */
  readonly rowAssign: readonly number[];
  /** u32[A]. */
  readonly assignRow: readonly number[];
  /** f32[A]. */
  readonly weight: readonly number[];
  /** u32[T + 1], if tokens have different numbers of assignments. */
  readonly tokenOffsets?: readonly number[];
  /** Losses by name. */
  readonly aux: Readonly<Record<string, number>>;
  /** u32[E] before capacity. */
  readonly load: readonly number[];
  /** u32[E] that are kept. */
  readonly counts: readonly number[];
  /** Assignments without a row. */
  readonly dropped: number;
  /** In nats. */
  readonly entropy: number;
}

const NO_ROW = 0xffffffff;
const STEP = 1e-6;

/** Reads a plan. */
export async function readPlan(plan: DispatchPlan): Promise<PlanData> {
  const { tokens, experts, assignments, stats, aux, tokenOffsets } = plan;
  const { expertOffsets, rowToken, rowAssign, assignRow, weight } = plan;
  const fields = { expertOffsets, rowToken, rowAssign, assignRow, weight, ...(tokenOffsets && { tokenOffsets }) };
  const data = await read({ fields, aux, stats });
  const lists = Object.fromEntries(Object.entries(data.fields).map(([name, values]) => [name, [...values!]]));
  return {
    tokens,
    experts,
    assignments,
    ...(lists as unknown as Pick<PlanData, keyof typeof fields>),
    aux: Object.fromEntries(Object.entries(data.aux).map(([name, values]) => [name, values[0]!])),
    load: [...data.stats.load],
    counts: [...data.stats.counts],
    dropped: data.stats.dropped[0]!,
    entropy: data.stats.entropy[0]!,
  };
}

/** Asserts everything that a plan promises by itself. */
export function assertPlanHolds(plan: PlanData, mask?: readonly boolean[]): void {
  const { tokens, experts, assignments, expertOffsets, rowToken, rowAssign, assignRow, weight, counts, load } = plan;
  const used = expertOffsets[experts]!;
  assertEquals(expertOffsets.length, experts + 1);
  assertEquals([rowToken, rowAssign, assignRow, weight].map((field) => field.length), new Array(4).fill(assignments));
  assertEquals(expertOffsets[0], 0);
  assert(used <= assignments);
  for (let e = 0; e < experts; e++) {
    const [start, end] = [expertOffsets[e]!, expertOffsets[e + 1]!];
    assertEquals(end - start, counts[e], `rows of expert ${e}`);
    assert(load[e]! >= counts[e]!, `expert ${e} keeps more than it was offered`);
    for (let row = start + 1; row < end; row++) assert(rowAssign[row - 1]! < rowAssign[row]!, `order at row ${row}`);
  }
  assertEquals(plan.dropped, assignments - used);
  assertEquals([...rowAssign].sort((a, b) => a - b), Array.from({ length: assignments }, (_, a) => a));
  rowAssign.slice(0, used).forEach((assignment, row) => assertEquals(assignRow[assignment], row));
  rowAssign.slice(used).forEach((assignment) => assertEquals(assignRow[assignment], NO_ROW));
  rowAssign.slice(0, used).forEach((assignment, row) => {
    const token = rowToken[row]!;
    const { tokenOffsets } = plan;
    if (tokenOffsets === undefined) assertEquals(token, Math.floor(assignment / (assignments / tokens)));
    else assert(tokenOffsets[token]! <= assignment && assignment < tokenOffsets[token + 1]!, `token of row ${row}`);
    assert(mask === undefined || mask[token], `row ${row} names padding`);
  });
  assert(rowToken.every((token) => token < tokens), "spare rows name no token at all");
  weight.forEach((value, a) => assert(assignRow[a] === NO_ROW ? value === 0 : Number.isFinite(value), `weight ${a}`));
  assert(Object.values(plan.aux).every(Number.isFinite), "aux is finite");
  assert(plan.entropy >= -1e-6 && plan.entropy <= Math.log(experts) + 1e-5, `entropy ${plan.entropy}`);
}

/** Which of `count` tokens are real. */
export type MaskKind = "none" | "some" | "nobody";

function drawTokens<P>(check: RouterCheck<P>, count: number, random: RandomSource, kind: MaskKind = "none"): Tokens {
  const { width, vocabulary, sequenceLength } = check;
  const hidden = tensor(random.normals(count * width).map(Math.fround), { shape: [count, width] });
  const ids = Array.from({ length: count }, () => random.integer(0, vocabulary ?? 1));
  return {
    hidden,
    ...(vocabulary === undefined ? {} : { ids: tensor(ids, { dtype: "u32" }) }),
    ...(kind === "none" ? {} : { mask: tensor(maskOf(count, kind), { dtype: "bool" }) }),
    ...(sequenceLength === undefined || count % sequenceLength !== 0 ? {} : { sequenceLength }),
  };
}

function maskOf(count: number, kind: MaskKind): boolean[] {
  return Array.from({ length: count }, (_, token) => kind !== "nobody" && (kind === "none" || token % 5 !== 3));
}

/** The tokens with everything but the first replaced by the first. */
async function allAlike(tokens: Tokens): Promise<Tokens> {
  async function repeat(x: Tensor): Promise<Tensor> {
    const data = await x.data();
    const width = x.size / x.shape[0]!;
    return tensor(Float64Array.from(data, (_, i) => data[i % width]!), { shape: x.shape, dtype: x.dtype });
  }
  const { hidden, ids, ...rest } = tokens;
  return { ...rest, hidden: await repeat(hidden), ...(ids && { ids: await repeat(ids) }) };
}

function contexts(): readonly RouteContext[] {
  return [{}, { train: true, key: key(11) }];
}

const COUNT = 24;

/** Registers the tests of a router. Call it at the top level of a test file. */
export function checkRouter<P>(check: RouterCheck<P>): void {
  const { name, router } = check;
  const makeParams = check.params ?? (() => router.init(key(0)));

  oracleTest(`${name} makes plans that hold together, for any load and padding`, async () => {
    for (const context of contexts()) {
      for (const count of [1, 5, COUNT]) {
        for (const kind of ["none", "some", "nobody"] as const) {
          const tokens = drawTokens(check, count, randomSource(count), kind);
          const mask = maskOf(count, kind);
          const plan = await readPlan(router.route(makeParams(), tokens, context));
          assertPlanHolds(plan, mask);
          if (kind === "nobody") assertEquals(plan.expertOffsets.at(-1), 0);
          const alike = await readPlan(router.route(makeParams(), await allAlike(tokens), {}));
          assertPlanHolds(alike, mask);
        }
      }
    }
  });

  oracleTest(`${name} has gradients through weights and losses alone`, async () => {
    for (const context of contexts()) await checkGradients(check, makeParams(), context);
  });

  oracleTest(`${name} pays no attention to padding`, async () => {
    const tokens = drawTokens(check, COUNT, randomSource(3), "some");
    const mask = maskOf(COUNT, "some");
    const other = drawTokens(check, COUNT, randomSource(4));
    const mixed = { ...tokens, hidden: await rowsWhere(mask, tokens.hidden, other.hidden) };
    const garbled = { ...mixed, ...(tokens.ids && { ids: await rowsWhere(mask, tokens.ids, other.ids!) }) };
    for (const context of contexts()) {
      const plans = [tokens, garbled].map((each) => readPlan(router.route(makeParams(), each, context)));
      const [plan, again] = await Promise.all(plans);
      assertEquals(again, plan);
    }
    const hidden = await grad((x: Tensor) => lossOf(router.route(makeParams(), { ...tokens, hidden: x })))(
      tokens.hidden,
    )
      .data();
    mask.forEach((isReal, t) => {
      if (!isReal) assert(hidden.slice(t * check.width, (t + 1) * check.width).every((value) => value === 0));
    });
  });

  oracleTest(`${name} depends on its key in training only`, async () => {
    const tokens = drawTokens(check, COUNT, randomSource(5));
    const planWith = (seed: number, train: boolean) =>
      readPlan(router.route(makeParams(), tokens, { train, key: key(seed) }));
    assertEquals(await planWith(1, false), await planWith(2, false));
    assertEquals(await planWith(1, true), await planWith(1, true));
  });

  gpuTest(`${name} plans alike on the device, eager and compiled once`, async () => {
    const route = jit((params: P, tokens: Tokens, context: RouteContext) => router.route(params, tokens, context));
    for (const [number, context] of contexts().entries()) {
      for (const seed of [6, 7]) {
        const plan = () =>
          readPlan(router.route(makeParams(), drawTokens(check, COUNT, randomSource(seed), "some"), context));
        const expected = await withOracle(async () =>
          await readPlan(
            router.route(makeParams(), drawTokens(check, COUNT, randomSource(seed), "some"), contexts()[number]),
          )
        );
        const eager = await plan();
        assertPlanAlike(eager, expected);
        assertEquals(await plan(), eager);
        const tokens = drawTokens(check, COUNT, randomSource(seed), "some");
        assertPlanAlike(await readPlan(route(makeParams(), tokens, context)), expected);
      }
      assertEquals(route.traces, number + 1);
    }
  });
}

/** Asserts that plans have equal indices and close numbers. */
export function assertPlanAlike(actual: PlanData, expected: PlanData): void {
  const { weight, aux, entropy, ...discrete } = actual;
  const { weight: expectedWeight, aux: expectedAux, entropy: expectedEntropy, ...expectedDiscrete } = expected;
  assertEquals(discrete, expectedDiscrete);
  const tolerance = toleranceFor("f32", 64);
  assertClose(weight, expectedWeight, tolerance, "weight");
  assertClose(Object.values(aux), Object.values(expectedAux), tolerance, "aux");
  assertClose([entropy], [expectedEntropy], tolerance, "entropy");
}

async function rowsWhere(mask: readonly boolean[], a: Tensor, b: Tensor): Promise<Tensor> {
  const width = a.size / mask.length;
  const [left, right] = [await a.data(), await b.data()];
  const data = Float64Array.from(left, (value, i) => mask[Math.floor(i / width)] ? value : right[i]!);
  return tensor(data, { shape: a.shape, dtype: a.dtype });
}

/** A loss that meets every differentiable field with its own coefficient. */
function lossOf({ weight, aux }: DispatchPlan): Tensor {
  const coefficients = tensor(randomSource(9).normals(weight.size));
  const losses = Object.values(aux).map((value, i) => mul(value, 0.7 + i));
  return [sum(mul(weight, coefficients)), ...losses].reduce((total, value) => add(total, value));
}

async function checkGradients<P>(check: RouterCheck<P>, params: P, context: RouteContext): Promise<void> {
  const random = randomSource(8);
  const { hidden, ...rest } = drawTokens(check, COUNT, random, "some");
  const inputs = { params, hidden };
  const planOf = (from: typeof inputs) => check.router.route(from.params, { ...rest, hidden: from.hidden }, context);
  const isFrozen = (path: string) => check.frozen?.some((name) => path === `.params.${name}`) ?? false;
  const direction = mapTree(inputs, (leaf, path) => {
    if (!isFloat(leaf.dtype)) return leaf;
    const step = isFrozen(path) ? new Float64Array(leaf.size) : random.normals(leaf.size);
    return tensor(step, { shape: leaf.shape });
  });
  const along = new Map(leavesOf(direction));
  const grads = grad((from: typeof inputs) => lossOf(planOf(from)))(inputs);
  let slope = 0;
  for (const [path, leaf] of leavesOf(grads)) {
    if (!isFloat(leaf.dtype)) continue;
    const [gradient, step] = await read([leaf, along.get(path)!] as const);
    gradient.forEach((value, i) => slope += value * step[i]!);
    if (isFrozen(path)) assert(gradient.every((value) => value === 0), `a gradient at ${path}`);
  }
  const moved = (factor: number) =>
    lossOf(
      planOf(mapTree(inputs, (leaf, path) => isFloat(leaf.dtype) ? add(leaf, mul(along.get(path)!, factor)) : leaf)),
    )
      .item();
  const difference = (await moved(STEP) - await moved(-STEP)) / (2 * STEP);
  assertClose([slope], [difference], { relative: 1e-5, absolute: 1e-6 }, `${check.name}, slope`);

  const entropyGrads = grad((from: typeof inputs) => planOf(from).stats.entropy)(inputs);
  for (const [path, leaf] of leavesOf(entropyGrads)) {
    assert((await leaf.data()).every((value) => value === 0), `entropy has a gradient at ${path}`);
  }
}
