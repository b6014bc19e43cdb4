/**
 * How long does a training step of a transformer of one block take, the same model in every library?
 *
 * `train_step_bench.ts` is about whole models as `deno task train` builds them; this one has learned positions, layer
 * norms and no mixture, because that is what every peer can do.
 *
 * @module
 */
import {
  add,
  causalAttention,
  crossEntropy,
  type DeviceInfo,
  gelu,
  layerNorm,
  matmul,
  reshape,
  splitAxis,
  take,
  type Tensor,
} from "../mod.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Question } from "./harness.ts";
import { buildTraining, type Named, type SmallTraining } from "./small_training.ts";
import { transformerData, type TransformerSizes } from "./training_data.ts";

const SIZES: TransformerSizes = { batch: 4, sequence: 128, width: 256, inner: 1024, heads: 4, vocabulary: 256 };

function lossWith(heads: number): SmallTraining["loss"] {
  return (p: Named, { ids, labels }: Named): Tensor => {
    const [batch, sequence] = ids!.shape as [number, number];
    const width = p.embedding!.shape[1]!;
    let hidden = add(take(p.embedding!, ids!), p.positions!); // [B, S, D]
    const attended = layerNorm(hidden, { scale: p.attentionScale!, bias: p.attentionBias! });
    const [q, k, v] = splitAxis(matmul(attended, p.qkv!), -1, 3)
      .map((part) => reshape(part, [batch, sequence, heads, width / heads])) as [Tensor, Tensor, Tensor];
    const mixed = causalAttention(q, k, v, { layout: "rowMajor" }); // [B, S, H, C]
    hidden = add(hidden, matmul(reshape(mixed, [batch, sequence, width]), p.output!));
    const raised = add(matmul(layerNorm(hidden, { scale: p.bodyScale!, bias: p.bodyBias! }), p.up!), p.upBias!);
    hidden = add(hidden, add(matmul(gelu(raised, { approximate: "tanh" }), p.down!), p.downBias!));
    return crossEntropy(
      matmul(layerNorm(hidden, { scale: p.finalScale!, bias: p.finalBias! }), p.unembedding!),
      labels!,
    );
  };
}

function training({ batch, sequence, width, inner, heads, vocabulary }: TransformerSizes): SmallTraining {
  const tokens = batch * sequence;
  const matrices = 4 * width ** 2 + 2 * width * inner + width * vocabulary;
  // The half of the scores that is masked is not counted.
  const attention = 2 * tokens * (sequence + 1) * width;
  return {
    kind: "transformer",
    optimizer: "adamw",
    heads,
    loss: lossWith(heads),
    data: transformerData(SIZES),
    smallData: transformerData({ batch: 2, sequence: 6, width: 16, inner: 24, heads, vocabulary: 11 }),
    terms: inner,
    steadySteps: 10,
    work: {
      flop: 3 * (2 * tokens * matrices + attention),
      bytes: 4 * 8 * (matrices + vocabulary * width + sequence * width),
    },
  };
}

/** The question for `deno task bench`. */
export const transformerStepQuestion: Question = {
  name: "transformer_step",
  asks: "How long does a training step of one transformer block take?",
  workloads(_device: DeviceInfo) {
    const { batch, sequence, width, inner, heads, vocabulary } = SIZES;
    return [{
      name: "block",
      shapes: `ids u32[${batch},${sequence}], width ${width}, inner ${inner}, ${heads} heads, vocabulary ${vocabulary}`,
      build: () => buildTraining(training(SIZES), [1]),
    }];
  },
};

await registerBenches(transformerStepQuestion, import.meta);
