import { assertEquals, assertNotEquals } from "@std/assert";
import { dropoutLayer } from "../../src/layers/dropout.ts";
import { linear, type LinearParams } from "../../src/layers/linear.ts";
import { rmsNormLayer, type RmsNormParams } from "../../src/layers/rms_norm.ts";
import { sequential } from "../../src/layers/sequential.ts";
import { ones } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { checkLayer } from "../support/check_layer.ts";
import { oracleTest } from "../support/runtimes.ts";

checkLayer({
  layer: sequential(rmsNormLayer({ width: 3 }), linear({ inputs: 3, outputs: 5 }), linear({ inputs: 5, outputs: 2 })),
  name: "sequential(rmsNorm(3), linear(3 -> 5), linear(5 -> 2))",
  params: {
    "[0].scale": "f32[3]",
    "[1].weight": "f32[3, 5]",
    "[1].bias": "f32[5]",
    "[2].weight": "f32[5, 2]",
    "[2].bias": "f32[2]",
  },
  inputs: [{ shape: [4, 3] }],
});

Deno.test("sequential() infers the tuple of parameters", () => {
  const layer = sequential(rmsNormLayer({ width: 3 }), linear({ inputs: 3, outputs: 5 }));
  const params: [RmsNormParams, LinearParams] = layer.init(key(0));
  assertEquals(params.length, 2);
});

oracleTest("sequential() gives each layer a key of its own", async () => {
  const twice = sequential(dropoutLayer({ rate: 0.5 }), dropoutLayer({ rate: 0.5 }));
  const once = dropoutLayer({ rate: 0.5 });
  const context = { key: key(1), train: true };
  const dropped = await twice.apply([{}, {}], ones([100]), context).data();
  const droppedOnce = await once.apply({}, ones([100]), context).data();
  assertNotEquals(Array.from(dropped, Math.sign), Array.from(droppedOnce, Math.sign));
  assertEquals(new Set(dropped), new Set([0, 4]));
});
