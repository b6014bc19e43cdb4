/**
 * The small multilayer perceptron that every library trains.
 *
 * @module
 */
import { add, crossEntropy, matmul, relu, type Tensor } from "../mod.ts";
import type { Named, SmallTraining } from "./small_training.ts";
import { MLP_SIZES, mlpData } from "./training_data.ts";

function loss(params: Named, { x, labels }: Named): Tensor {
  const layers = Object.keys(params).length / 2;
  let hidden = x!;
  for (let layer = 1; layer <= layers; layer++) {
    hidden = add(matmul(hidden, params[`w${layer}`]!), params[`b${layer}`]!);
    if (layer < layers) hidden = relu(hidden);
  }
  return crossEntropy(hidden, labels!);
}

/** The model with its data, trained by an optimizer. */
export function mlpTraining(optimizer: "sgd" | "adam"): SmallTraining {
  const { batch, widths } = MLP_SIZES;
  const products = widths.slice(1).map((outputs, i) => widths[i]! * outputs);
  const weights = products.reduce((sum, product) => sum + product, 0);
  return {
    kind: "mlp",
    optimizer,
    heads: 0,
    loss,
    data: mlpData(MLP_SIZES),
    smallData: mlpData({ batch: 5, widths: [12, 9, 7, 4] }),
    terms: widths[0]!,
    steadySteps: 200,
    work: {
      // Two products backward for each of forward, but for the gradient of the input, which nobody needs.
      flop: 2 * batch * (3 * weights - products[0]!),
      // SGD reads parameters, writes and reads gradients and writes parameters; Adam moves both moments too.
      bytes: 4 * (weights * (optimizer === "sgd" ? 4 : 8) + batch * widths[0]!),
    },
  };
}
