import { layerNormLayer } from "../../src/layers/layer_norm.ts";
import { rmsNormLayer } from "../../src/layers/rms_norm.ts";
import { checkLayer } from "../support/check_layer.ts";

checkLayer({
  layer: layerNormLayer({ width: 5 }),
  name: "layerNorm(5)",
  params: { ".scale": "f32[5]", ".bias": "f32[5]" },
  inputs: [{ shape: [2, 3, 5] }],
});

checkLayer({
  layer: rmsNormLayer({ width: 5, epsilon: 1e-3 }),
  name: "rmsNorm(5)",
  params: { ".scale": "f32[5]" },
  inputs: [{ shape: [2, 3, 5] }],
});
