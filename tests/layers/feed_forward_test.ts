import { feedForward } from "../../src/layers/feed_forward.ts";
import { checkLayer } from "../support/check_layer.ts";

checkLayer({
  layer: feedForward({ width: 3, inner: 5, bias: true }),
  name: "feedForward(3 -> 5, ffn, gelu)",
  params: {
    ".up.weight": "f32[3, 5]",
    ".up.bias": "f32[5]",
    ".down.weight": "f32[5, 3]",
    ".down.bias": "f32[3]",
  },
  inputs: [{ shape: [2, 4, 3] }],
});

checkLayer({
  layer: feedForward({ width: 2, activation: "silu", body: "glu" }),
  name: "feedForward(2 -> 8, glu, silu)",
  params: { ".up.weight": "f32[2, 8]", ".down.weight": "f32[8, 2]", ".gate.weight": "f32[2, 8]" },
  inputs: [{ shape: [5, 2] }],
});
