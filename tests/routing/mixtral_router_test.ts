import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { reshape } from "../../src/ops/view.ts";
import { mixtralRouter } from "../../src/routing/mixtral_router.ts";
import { readPlan } from "../support/check_router.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

interface Fixture {
  readonly x: GoldenTensor;
  readonly params: { readonly gate: GoldenTensor };
  readonly experts: GoldenTensor;
  readonly routingWeights: GoldenTensor;
}

oracleTest("mixtralRouter() chooses and weighs like transformers' block", async () => {
  const { x, params, experts, routingWeights } = await readGolden<Fixture>("mixtral.json");
  const [width, count] = params.gate.shape as [number, number];
  const router = mixtralRouter({ width, experts: count });
  const hidden = reshape(fromGolden(x), [-1, width]);
  const plan = await readPlan(router.route({ gate: fromGolden(params.gate) }, { hidden }));
  assertEquals(plan.assignRow.map((row) => plan.expertOffsets.findLastIndex((start) => start <= row)), experts.data);
  assertClose(plan.weight, routingWeights.data, { relative: 1e-5, absolute: 1e-6 }, "weights");
  assertEquals(plan.dropped, 0);
});

Deno.test("mixtralRouter() refuses more choices than experts", () => {
  assertEquals(
    assertThrows(() => mixtralRouter({ width: 4, experts: 2, k: 3 }), ConfigError).message,
    `Cannot build mixtralRouter: 1 option is invalid
  k  3  must be a whole number in 1..2 (experts is 2)`,
  );
  assertEquals(mixtralRouter({ width: 4, experts: 8 }).name, "mixtral(2/8)");
});
