import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { memoryLayer } from "../../src/layers/memory.ts";
import { moe } from "../../src/layers/moe.ts";
import { multiHash } from "../../src/layers/multi_hash.ts";
import { productKeyMemory } from "../../src/layers/product_key_memory.ts";
import { smear } from "../../src/layers/smear.ts";
import { softMoe } from "../../src/layers/soft_moe.ts";
import { topKFeedForward } from "../../src/layers/top_k_feed_forward.ts";
import { transformerLm } from "../../src/layers/transformer_lm.ts";
import { deepseekRouter } from "../../src/routing/deepseek_router.ts";
import { expertChoiceRouter } from "../../src/routing/expert_choice_router.ts";
import { idLookup } from "../../src/routing/id_lookup.ts";
import { mixtralRouter } from "../../src/routing/mixtral_router.ts";
import { multiHashRouter } from "../../src/routing/multi_hash_router.ts";
import { noisyTopKRouter } from "../../src/routing/noisy_top_k_router.ts";
import { reluRouter } from "../../src/routing/relu_router.ts";
import { sigmaRouter } from "../../src/routing/sigma_router.ts";
import { sinkhornRouter } from "../../src/routing/sinkhorn_router.ts";
import { softmaxLookup } from "../../src/routing/softmax_lookup.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { weightedHashRouter } from "../../src/routing/weighted_hash_router.ts";

/** The lines of a refusal that name options. */
function problemsOf(build: () => unknown): readonly string[] {
  return assertThrows(build, ConfigError).message.split("\n").filter((line) => line.startsWith("  ")).map((line) =>
    line.trim()
  );
}

const SIZES = { width: 4, experts: 2 };

Deno.test("every router and memory refuses more choices than there are, when it is built", () => {
  const below = "k  3  must be a whole number in 1..2 (experts is 2)";
  const refusals: readonly (readonly [() => unknown, string])[] = [
    [() => topKRouter({ ...SIZES, k: 3 }), below],
    [() => mixtralRouter({ ...SIZES, k: 3 }), below],
    [() => sigmaRouter({ ...SIZES, k: 3 }), below],
    [() => deepseekRouter({ ...SIZES, k: 3 }), below],
    [() => sinkhornRouter({ ...SIZES, k: 3 }), below],
    [() => weightedHashRouter({ ...SIZES, k: 3, vocabulary: 5 }), below],
    [() => noisyTopKRouter({ ...SIZES, k: 3 }), "k  3  must be below experts, which is 2"],
    [() => reluRouter({ ...SIZES, k: 3 }), "k  3  must be at most 2, the most experts a token may visit"],
    [() => softmaxLookup({ width: 4, rows: 2, k: 3 }), "k  3  must be a whole number in 1..2 (rows is 2)"],
    [
      () => productKeyMemory({ width: 4, halfKeys: 2, k: 3 }),
      "k  3  must be a whole number in 1..2 (halfKeys is 2)",
    ],
    [() => topKFeedForward({ width: 4, k: 17 }), "k  17  must be a whole number in 1..16 (inner is 16)"],
  ];
  for (const [build, problem] of refusals) assertEquals(problemsOf(build), [problem]);
});

Deno.test("every layer with experts refuses an expert width of zero, beside all else, when it is built", () => {
  const router = topKRouter({ ...SIZES, k: 1 });
  const zero = { width: 0, inner: 0 };
  const problems = ["width  0  must be a whole number from 1 up", "inner  0  must be a whole number from 1 up"];
  assertEquals(problemsOf(() => moe({ router, ...zero })), problems);
  assertEquals(problemsOf(() => smear({ experts: 2, ...zero })), problems);
  assertEquals(problemsOf(() => softMoe({ experts: 2, ...zero })), problems);
  assertEquals(problemsOf(() => feedForward(zero)), problems);
  const tables = multiHashRouter({ experts: 2, segments: 2, vocabulary: 5 });
  assertEquals(problemsOf(() => multiHash({ router: tables, ...zero })), problems);
  assertEquals(problemsOf(() => topKFeedForward({ ...zero, k: 1 })).slice(0, 2).map((line) => line.split(" ")[0]), [
    "width",
    "inner",
  ]);
  const layer = feedForward({ width: 4 });
  assertEquals(
    problemsOf(() => memoryLayer({ width: 4, lookup: idLookup({ rows: 3 }), layer, rank: 0 } as never)),
    ["rank  0  must be a whole number from 1 up"],
  );
});

Deno.test("transformerLm() refuses bodies that see later tokens, when it is built", () => {
  const bodies = [
    moe({ router: expertChoiceRouter(SIZES), width: 4 }),
    softMoe(SIZES),
    smear(SIZES),
    moe({ router: topKRouter({ ...SIZES, k: 2, capacityFactor: 1 }), width: 4 }),
  ];
  for (const body of bodies) {
    const build = () =>
      transformerLm({ width: 4, layers: 2, heads: 1, body: (layer) => layer === 0 ? layerOf() : body });
    const { code, message } = assertThrows(build, ConfigError);
    assertEquals(code, "config/causal");
    assertEquals(
      message.split("\n")[0],
      `Cannot use router ${body.name} in transformerLm: a token's experts depend on later tokens`,
    );
  }
  transformerLm({
    width: 4,
    layers: 1,
    heads: 1,
    body: () => moe({ router: topKRouter({ ...SIZES, k: 2 }), width: 4 }),
  });
});

function layerOf() {
  return feedForward({ width: 4 });
}
