import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { moe } from "../../src/layers/moe.ts";
import { sharedExperts } from "../../src/layers/shared_experts.ts";
import { key } from "../../src/ops/random.ts";
import { normal } from "../../src/ops/samplers.ts";
import { deepseekRouter } from "../../src/routing/deepseek_router.ts";
import { switchRouter } from "../../src/routing/switch_router.ts";
import { checkLayer } from "../support/check_layer.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";

const routed = moe({ router: deepseekRouter({ width: 4, experts: 3, k: 2 }), width: 4, inner: 5 });
const shared = feedForward({ width: 4, inner: 6 });

checkLayer({
  layer: sharedExperts({ routed, shared }),
  name: `sharedExperts(${routed.name}, ${shared.name})`,
  params: {
    ".routed.router.gate": "f32[4, 3]",
    ".routed.router.bias": "f32[3]",
    ".routed.experts.up": "f32[3, 4, 5]",
    ".routed.experts.down": "f32[3, 5, 4]",
    ".shared.up.weight": "f32[4, 6]",
    ".shared.down.weight": "f32[6, 4]",
  },
  inputs: [{ shape: [2, 3, 4] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden, plan }) => [hidden, plan.aux.balance!],
  tolerance: { relative: 1e-5, absolute: 1e-5 },
});

oracleTest("sharedExperts() adds both parts, and passes keys to both", async () => {
  const jittered = moe({ router: switchRouter({ width: 4, experts: 3 }), width: 4, inner: 5 });
  const layer = sharedExperts({ routed: jittered, shared });
  const params = layer.init(key(0));
  const hidden = normal(key(1), [2, 3, 4]);
  const both = [...await layer.apply(params, { hidden }).hidden.data()];
  const parts = [jittered.apply(params.routed, { hidden }).hidden, shared.apply(params.shared, hidden)];
  const [own, dense] = [[...await parts[0]!.data()], [...await parts[1]!.data()]];
  assertClose(both, own.map((value, i) => value + dense[i]!), { relative: 1e-6, absolute: 1e-7 }, "sum");
  const trained = layer.apply(params, { hidden }, { train: true, key: key(2) });
  assertEquals((await trained.hidden.data()).length, both.length);
});

Deno.test("sharedExperts() refuses what is no layer", () => {
  // deno-lint-ignore no-explicit-any -- a caller without types
  const wrong: any = { routed, shared: null };
  assertEquals(
    assertThrows(() => sharedExperts(wrong), ConfigError).message,
    `Cannot build sharedExperts: 1 option is invalid
  shared  null  must be a layer, with init and apply`,
  );
});
