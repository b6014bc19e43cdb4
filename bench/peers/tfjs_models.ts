/**
 * The models of the tasks in TensorFlow.js.
 *
 * @module
 */
import type { TrainTask } from "./task.ts";
import type { TensorFlow, TfTensor } from "./tfjs_types.ts";

/** Tensors by name. */
export type TfNamed = Readonly<Record<string, TfTensor>>;

/** The tanh form of gelu, which the library does not have. */
export function gelu(tf: TensorFlow, x: TfTensor): TfTensor {
  // (1 + tanh z) / 2 is sigmoid(2z), one kernel instead of three.
  const bent = tf.sigmoid(tf.mul(x, tf.add(tf.mul(tf.square(x), 2 * GELU_SCALE * GELU_CUBE), 2 * GELU_SCALE)));
  return tf.mul(x, bent);
}

const GELU_SCALE = Math.sqrt(2 / Math.PI);
const GELU_CUBE = 0.044715;

/** The layer norm of rows. */
export function layerNorm(tf: TensorFlow, x: TfTensor, scale: TfTensor, bias: TfTensor): TfTensor {
  const centered = tf.sub(x, tf.mean(x, -1, true));
  const variance = tf.mean(tf.square(centered), -1, true);
  return tf.add(tf.mul(centered, tf.mul(tf.rsqrt(tf.add(variance, 1e-5)), scale)), bias);
}

/** The loss of a training task over tensors that an optimizer replaces in place. */
export function tfLoss(tf: TensorFlow, task: TrainTask, given: TfNamed): () => TfTensor {
  return task.kind === "mlp" ? () => mlpLoss(tf, task, given) : () => transformerLoss(tf, task, given);
}

function crossEntropy(tf: TensorFlow, logits: TfTensor, oneHotLabels: TfTensor): TfTensor {
  return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), oneHotLabels), -1)));
}

function mlpLoss(tf: TensorFlow, { parameters }: TrainTask, given: TfNamed): TfTensor {
  const layers = parameters.length / 2;
  let hidden = given.x!;
  for (let layer = 1; layer <= layers; layer++) {
    hidden = tf.add(tf.matMul(hidden, given[`w${layer}`]!), given[`b${layer}`]!);
    if (layer < layers) hidden = tf.relu(hidden);
  }
  return crossEntropy(tf, hidden, given.oneHotLabels!);
}

/** Tokens are flat except in attention: matMul does not broadcast a matrix over a batch for free. */
function transformerLoss(tf: TensorFlow, { heads }: TrainTask, p: TfNamed): TfTensor {
  const [batch, sequence, vocabulary] = p.oneHotIds!.shape as [number, number, number];
  const width = p.embedding!.shape[1]!;
  const [tokens, channels] = [batch * sequence, width / heads];
  // The gradient of a gather is no faster, and on wasm there is none.
  const embedded = tf.matMul(tf.reshape(p.oneHotIds!, [tokens, vocabulary]), p.embedding!);
  const placed = tf.add(tf.reshape(embedded, [batch, sequence, width]), p.positions!);
  let hidden = tf.reshape(placed, [tokens, width]);
  const qkv = tf.matMul(layerNorm(tf, hidden, p.attentionScale!, p.attentionBias!), p.qkv!);
  const [q, k, v] = tf.split(qkv, 3, -1).map((part) =>
    tf.transpose(tf.reshape(part, [batch, sequence, heads, channels]), [0, 2, 1, 3])
  );
  const scores = tf.add(tf.mul(tf.matMul(q!, k!, false, true), 1 / Math.sqrt(channels)), p.mask!);
  const mixed = tf.transpose(tf.matMul(tf.softmax(scores), v!), [0, 2, 1, 3]);
  hidden = tf.add(hidden, tf.matMul(tf.reshape(mixed, [tokens, width]), p.output!));
  const raised = tf.add(tf.matMul(layerNorm(tf, hidden, p.bodyScale!, p.bodyBias!), p.up!), p.upBias!);
  hidden = tf.add(hidden, tf.add(tf.matMul(gelu(tf, raised), p.down!), p.downBias!));
  const logits = tf.matMul(layerNorm(tf, hidden, p.finalScale!, p.finalBias!), p.unembedding!);
  return crossEntropy(tf, logits, tf.reshape(p.oneHotLabels!, [tokens, vocabulary]));
}

/** Parameters that gradients are taken by, in the order of the outputs. */
const DIFFERENTIATED = ["hidden", "gate", "up", "down"] as const;

/**
 * The mixture of experts: rows gathered into padded slots, batched products, rows gathered back.
 *
 * Who goes where is given to it ready made, which is in its favor: `slotToken` i32[E * C] names the token in each slot,
 * `assignmentSlot` i32[T * K] the slot of each assignment, `oneHotChoices` f32[T, K, E] its expert.
 */
export function tfMixture(
  tf: TensorFlow,
  { backward }: { readonly backward: boolean },
  inputs: TfNamed,
): { readonly names: readonly string[]; apply(): TfTensor[] } {
  const [tokens, k, experts] = inputs.oneHotChoices!.shape as [number, number, number];
  const width = inputs.hidden!.shape[1]!;
  function layer(...given: readonly TfTensor[]): TfTensor {
    const [hidden, gate, up, down] = given as [TfTensor, TfTensor, TfTensor, TfTensor];
    const scores = tf.reshape(tf.softmax(tf.matMul(hidden, gate)), [tokens, 1, experts]);
    const weight = tf.sum(tf.mul(scores, inputs.oneHotChoices!), -1); // [T, K]
    const rows = tf.reshape(tf.gather(hidden, inputs.slotToken!), [experts, -1, width]);
    const put = tf.reshape(tf.matMul(gelu(tf, tf.matMul(rows, up)), down), [-1, width]);
    const weighted = tf.mul(
      tf.reshape(tf.gather(put, inputs.assignmentSlot!), [tokens, k, width]),
      tf.reshape(weight, [tokens, k, 1]),
    );
    // A sum over the middle axis makes a shader that naga rejects; a token has few choices.
    if (k === 1) return tf.reshape(weighted, [tokens, width]);
    return tf.split(weighted, k, 1).map((part) => tf.reshape(part, [tokens, width])).reduce((a, b) => tf.add(a, b));
  }
  const given = DIFFERENTIATED.map((name) => inputs[name]!);
  if (!backward) return { names: ["out"], apply: () => [layer(...given)] };
  const differentiate = tf.grads((...given) => tf.sum(tf.mul(layer(...given), inputs.cotangent!)));
  return { names: DIFFERENTIATED, apply: () => differentiate(given) };
}
