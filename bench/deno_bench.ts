/**
 * Registers a question's workloads with `deno bench`.
 *
 * An iteration submits as many calls as fill {@linkcode TURN_MS} and waits once, so that Deno's wait of about 11 ms is
 * a small part of it. Names say how many calls that are, with shapes and units; `deno task bench` prints rates and
 * ratios, subtracts the wait and interleaves, so prefer it for figures.
 *
 * @module
 */
import { init } from "../mod.ts";
import {
  callsPerTurn,
  type Contender,
  entrantOf,
  measureWait,
  type Question,
  runCalls,
  type Workload,
} from "./harness.ts";
import { formatCount, formatWork } from "./format.ts";

/** How long one iteration should last in milliseconds: above 50 even if the machine was busier when calls were counted. */
const TURN_MS = 75;

/** Iterations that are measured; each is long, so few are enough. */
const ITERATIONS = 10;

/**
 * Checks and registers a question's workloads if the file that holds it was started by `deno bench`.
 *
 * @param meta The file's `import.meta`. Where another program imports the file, nothing happens.
 */
export async function registerBenches(question: Question, meta: ImportMeta): Promise<void> {
  // `deno bench` runs each file as the main module of a worker, yet import.meta.main is true only under `deno run`.
  if (Deno.mainModule !== meta.url || meta.main) return;
  const device = await init();
  const waitMs = await measureWait();
  for (const workload of question.workloads(device)) {
    const { contenders, verify } = await workload.build();
    await verify();
    for (const contender of contenders) {
      const calls = await callsPerTurn(entrantOf(contender, { waitMs }), { turnMs: TURN_MS });
      register(question, workload, contender, { calls, ...comparisonOf(workload, contender, contenders) });
    }
  }
}

/** Which entries `deno bench` compares: those of one group with its baseline. */
type Comparison = Pick<Deno.BenchDefinition, "group" | "baseline">;

function comparisonOf(
  workload: Workload,
  { name, ratioTo }: Contender,
  contenders: readonly Contender[],
): Comparison {
  if (ratioTo !== undefined) return { group: `${workload.name}, ${ratioTo}` };
  const isBaseline = contenders.some((other) => other.ratioTo === name);
  return isBaseline ? { group: `${workload.name}, ${name}`, baseline: true } : {};
}

function register(
  question: Question,
  { name, shapes }: Workload,
  contender: Contender,
  { calls, ...comparison }: { readonly calls: number } & Comparison,
): void {
  const { flop, bytes, items } = contender.work;
  const total = {
    flop: flop * calls,
    bytes: bytes * calls,
    ...(items === undefined ? {} : { items: { name: items.name, count: items.count * calls } }),
  };
  Deno.bench({
    name: `${question.name} ${name}, ${contender.name}: ${shapes}; ${formatCount(calls, "call")}, ${formatWork(total)}`,
    ...comparison,
    n: ITERATIONS,
    warmup: 1,
    async fn() {
      await runCalls(contender, calls);
    },
  });
}
