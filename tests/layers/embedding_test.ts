import { assertAlmostEquals } from "@std/assert";
import { embedding } from "../../src/layers/embedding.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { checkLayer } from "../support/check_layer.ts";
import { checkOp } from "../support/check_primitive.ts";
import { oracleTest } from "../support/runtimes.ts";

const layer = embedding({ vocabulary: 7, width: 3 });

checkLayer({
  layer,
  name: "embedding(7, 3)",
  params: { ".weight": "f32[7, 3]" },
  inputs: [{ shape: [2, 5], dtype: "u32", range: [0, 7] }],
});

checkOp({
  name: "embedding, tied",
  fn: (weight, ids) => layer.project({ weight: weight! }, layer.apply({ weight: weight! }, ids!)),
  samples: [{ inputs: [{ shape: [7, 3] }, { shape: [2, 5], dtype: "u32", range: [0, 7] }] }],
});

oracleTest("embedding() scores an id by the product of its row with the vector", async () => {
  const params = layer.init(key(2));
  const rows = await params.weight.data();
  const logits = await layer.project(params, tensor([[1, -2, 3]])).data();
  for (let id = 0; id < 7; id++) {
    assertAlmostEquals(logits[id]!, rows[3 * id]! - 2 * rows[3 * id + 1]! + 3 * rows[3 * id + 2]!, 1e-7);
  }
});
