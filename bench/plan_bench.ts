/**
 * What does it cost to decide who goes where: from chosen experts to a plan, and from hidden states to a plan?
 *
 * @module
 */
import {
  type DeviceInfo,
  type DispatchPlan,
  type HostData,
  jit,
  key,
  type MapLeaves,
  normal,
  planFromTopK,
  read,
  realize,
  type Tensor,
  topKRouter,
} from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import { forcedRouter, type ForcedRouterParams } from "./forced_router.ts";
import type { Built, Question } from "./harness.ts";
import { expectClose, expectEqual, hostProductRow, sampleRows, WrongResultError } from "./verify.ts";

interface Routing {
  readonly tokens: number;
  readonly experts: number;
  readonly k: number;
}

/** Width of the hidden states that the gate looks at. */
const WIDTH = 128;

type HostPlan = MapLeaves<DispatchPlan, HostData>;

/** Checks the rows of a plan that drops nothing against a stable sort of the choices. */
function expectSorted(plan: HostPlan, choices: ArrayLike<number>, { experts, k }: Routing): void {
  const order = Array.from(choices, (_, assignment) => assignment).sort((a, b) => choices[a]! - choices[b]! || a - b);
  const offsets = new Array<number>(experts + 1).fill(0);
  for (let i = 0; i < choices.length; i++) offsets[choices[i]! + 1]!++;
  for (let expert = 0; expert < experts; expert++) offsets[expert + 1]! += offsets[expert]!;
  const rows = new Uint32Array(order.length);
  order.forEach((assignment, row) => rows[assignment] = row);
  expectEqual("expertOffsets", plan.expertOffsets, offsets);
  expectEqual("rowAssign", plan.rowAssign, order);
  expectEqual("rowToken", plan.rowToken, order.map((assignment) => Math.floor(assignment / k)));
  expectEqual("assignRow", plan.assignRow, rows);
}

/** The expert of every assignment, read off a plan. */
function choicesOf({ expertOffsets, rowAssign, assignments, experts }: HostPlan): Uint32Array {
  const choices = new Uint32Array(assignments);
  for (let expert = 0; expert < experts; expert++) {
    for (let row = expertOffsets[expert]!; row < expertOffsets[expert + 1]!; row++) choices[rowAssign[row]!] = expert;
  }
  return choices;
}

/** Checks for some tokens that the chosen experts are the best ones and weigh their softmax score. */
function expectBest(
  { choices, weight }: { readonly choices: Uint32Array; readonly weight: HostData },
  { hidden, gate }: { readonly hidden: HostData; readonly gate: HostData },
  { tokens, experts, k }: Routing,
): void {
  const gateMatrix = { data: gate, offset: 0, rowStep: experts, columnStep: 1 };
  for (const token of sampleRows(tokens)) {
    const hiddenRow = { data: hidden, offset: 0, rowStep: WIDTH, columnStep: 1 };
    const logits = hostProductRow(hiddenRow, gateMatrix, { row: token, inner: WIDTH, columns: experts });
    const chosen = [...choices.subarray(token * k, (token + 1) * k)];
    const worst = Math.min(...chosen.map((expert) => logits[expert]!));
    const better = logits.filter((logit, expert) => !chosen.includes(expert) && logit > worst + 1e-4);
    if (better.length > 0) throw new WrongResultError(`token ${token} did not get its best experts`);
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const expected = chosen.map((expert) => Math.exp(logits[expert]!) / total);
    expectClose(`weights of token ${token}`, weight.subarray(token * k, (token + 1) * k), expected, WIDTH);
  }
}

function build(routing: Routing): Built {
  const { tokens, experts, k } = routing;
  const router = topKRouter({ width: WIDTH, experts, k, gateStd: 1 / Math.sqrt(WIDTH) });
  const inputs = realize({
    choices: forcedRouter(routing).init(key(0)),
    hidden: normal(key(1), [tokens, WIDTH]),
    params: router.init(key(2)),
  });
  const plan = jit(
    ({ table, weights }: ForcedRouterParams) => planFromTopK({ experts, indices: table, weights }),
    { name: "plan" },
  );
  const route = jit((params: typeof inputs.params, hidden: Tensor) => router.route(params, { hidden }), {
    name: "route",
  });

  async function verify(): Promise<void> {
    const found = await read({
      ...inputs,
      plan: plan(inputs.choices),
      routed: route(inputs.params, inputs.hidden),
    });
    expectSorted(found.plan as HostPlan, found.choices.table, routing);
    const routed = found.routed as HostPlan;
    const choices = choicesOf(routed);
    expectSorted(routed, choices, routing);
    expectBest({ choices, weight: routed.weight }, { hidden: found.hidden, gate: found.params.gate }, routing);
  }

  const assignments = tokens * k;
  const items = { name: "assignments", count: assignments };
  // Choice and weight in; row, token, assignment and weight out.
  const planBytes = 4 * (6 * assignments + experts + 1);
  return {
    contenders: [
      { name: "planFromTopK", work: { flop: 0, bytes: planBytes, items }, run: () => plan(inputs.choices) },
      {
        name: "topKRouter",
        work: { flop: 2 * tokens * WIDTH * experts, bytes: planBytes + 4 * WIDTH * (tokens + experts), items },
        run: () => route(inputs.params, inputs.hidden),
      },
    ],
    inputs,
    verify,
  };
}

const EVERYWHERE: readonly Routing[] = [
  { tokens: 2048, experts: 8, k: 1 },
  { tokens: 2048, experts: 8, k: 2 },
  { tokens: 4096, experts: 32, k: 2 },
  { tokens: 4096, experts: 64, k: 8 },
];

/** The question for `deno task bench`. */
export const planQuestion: Question = {
  name: "plan",
  asks: "What does it cost to decide who goes where?",
  workloads: ({ software }: DeviceInfo) =>
    [...EVERYWHERE, ...(software ? [] : [{ tokens: 32768, experts: 256, k: 8 }])].map((routing) => ({
      name: `T${routing.tokens} E${routing.experts} K${routing.k}`,
      shapes:
        `choices u32[${routing.tokens},${routing.k}] of ${routing.experts}; hidden f32[${routing.tokens},${WIDTH}]`,
      build: () => build(routing),
    })),
};

await registerBenches(planQuestion, import.meta);
