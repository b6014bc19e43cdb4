/**
 * The models of the training tasks in jax-js.
 *
 * @module
 */
import type { Jax, JaxArray } from "./jax_types.ts";
import type { TrainTask } from "./task.ts";

type Named = Readonly<Record<string, JaxArray>>;

/** A loss as a function of parameters and data, and which data it takes. */
export interface JaxLoss {
  /** Names of the inputs it takes beside the parameters. */
  readonly data: readonly string[];
  /** The mean cross-entropy; consumes its arguments. */
  apply(parameters: Named, data: Named): JaxArray;
}

/** The loss of a training task. */
export function jaxLoss(jax: Jax, task: TrainTask): JaxLoss {
  return task.kind === "mlp" ? mlpLoss(jax, task) : transformerLoss(jax, task);
}

/** Row by row first: summing all elements in one go passes the 65,535 iterations that llvmpipe grants. */
function crossEntropy({ numpy: np, nn }: Jax, logits: JaxArray, oneHotLabels: JaxArray): JaxArray {
  return np.mean(np.sum(nn.logSoftmax(logits, -1).mul(oneHotLabels), -1)).mul(-1);
}

function mlpLoss(jax: Jax, { parameters }: TrainTask): JaxLoss {
  const { numpy: np, nn } = jax;
  const layers = parameters.length / 2;
  return {
    data: ["x", "oneHotLabels"],
    apply(given: Named, { x, oneHotLabels }: Named): JaxArray {
      let hidden = x!;
      for (let layer = 1; layer <= layers; layer++) {
        hidden = np.matmul(hidden, given[`w${layer}`]!).add(given[`b${layer}`]!);
        if (layer < layers) hidden = nn.relu(hidden);
      }
      return crossEntropy(jax, hidden, oneHotLabels!);
    },
  };
}

function transformerLoss(jax: Jax, { heads }: TrainTask): JaxLoss {
  const { numpy: np, nn } = jax;
  const norm = (x: JaxArray, scale: JaxArray, bias: JaxArray): JaxArray => nn.standardize(x, -1).mul(scale).add(bias);
  return {
    // The gradient of a gather fails; a product with one-hot rows is the best form that works.
    data: ["oneHotIds", "oneHotLabels"],
    apply(p: Named, { oneHotIds, oneHotLabels }: Named): JaxArray {
      const [batch, sequence] = oneHotIds!.shape as [number, number];
      const width = p.embedding!.shape[1]!;
      let hidden = np.matmul(oneHotIds!, p.embedding!).add(p.positions!); // [B, S, D]
      const qkv = np.matmul(norm(hidden.ref, p.attentionScale!, p.attentionBias!), p.qkv!);
      const [q, k, v] = np.split(qkv, 3, -1).map((part) => part.reshape([batch, sequence, heads, width / heads]));
      const mixed = nn.dotProductAttention(q!, k!, v!, { isCausal: true }).reshape([batch, sequence, width]);
      hidden = hidden.add(np.matmul(mixed, p.output!));
      const raised = np.matmul(norm(hidden.ref, p.bodyScale!, p.bodyBias!), p.up!).add(p.upBias!);
      hidden = hidden.add(np.matmul(nn.gelu(raised, { approximate: true }), p.down!).add(p.downBias!));
      const logits = np.matmul(norm(hidden, p.finalScale!, p.finalBias!), p.unembedding!);
      return crossEntropy(jax, logits, oneHotLabels!);
    },
  };
}
