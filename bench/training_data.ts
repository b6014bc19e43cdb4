/**
 * Data and initial parameters of the small training steps that every library takes, made on the host.
 *
 * @module
 */
import { randomSource } from "../tests/support/random.ts";
import { floats, type HostArray, type HostArrays, integers } from "./peers/task.ts";

/** Sizes of a multilayer perceptron: a batch, and the width of the input and of every layer. */
export interface MlpSizes {
  /** Rows of a batch. */
  readonly batch: number;
  /** Width of the input, of the hidden layers and of the output. */
  readonly widths: readonly number[];
}

/** The classic: digits of 28 x 28 pixels. */
export const MLP_SIZES: MlpSizes = { batch: 128, widths: [784, 256, 256, 10] };

/** Sizes of a transformer of one block. */
export interface TransformerSizes {
  /** Sequences. */
  readonly batch: number;
  /** Tokens of one. */
  readonly sequence: number;
  /** Width of the hidden states. */
  readonly width: number;
  /** Inner width of the body. */
  readonly inner: number;
  /** Attention heads. */
  readonly heads: number;
  /** Token ids. */
  readonly vocabulary: number;
}

/** What a step starts from. */
export interface TrainingData {
  /** Initial parameters. */
  readonly parameters: HostArrays;
  /** The batch, in every form that some library wants. */
  readonly batch: HostArrays;
}

type Random = ReturnType<typeof randomSource>;

function normals(random: Random, shape: readonly number[], deviation: number): HostArray {
  const count = shape.reduce((product, size) => product * size, 1);
  return floats(shape, random.normals(count).map((value) => value * deviation));
}

function constant(size: number, value: number): HostArray {
  return floats([size], new Float32Array(size).fill(value));
}

function draws(random: Random, shape: readonly number[], classes: number): HostArray {
  const count = shape.reduce((product, size) => product * size, 1);
  return integers(shape, Array.from({ length: count }, () => random.integer(0, classes)));
}

function oneHot({ shape, data }: HostArray, classes: number): HostArray {
  const result = new Float32Array(data.length * classes);
  data.forEach((value, i) => result[i * classes + value] = 1);
  return floats([...shape, classes], result);
}

/** Rows to classify at random: how long a step takes does not depend on what is learned. */
export function mlpData({ batch, widths }: MlpSizes): TrainingData {
  const random = randomSource(1);
  const parameters: Record<string, HostArray> = {};
  for (let layer = 1; layer < widths.length; layer++) {
    const [inputs, outputs] = [widths[layer - 1]!, widths[layer]!];
    parameters[`w${layer}`] = normals(random, [inputs, outputs], Math.sqrt(2 / inputs));
    parameters[`b${layer}`] = constant(outputs, 0);
  }
  const classes = widths.at(-1)!;
  const labels = draws(random, [batch], classes);
  return {
    parameters,
    batch: { x: normals(random, [batch, widths[0]!], 1), labels, oneHotLabels: oneHot(labels, classes) },
  };
}

/** Windows of random bytes. `mask` is 0 where a token may look and -1e9 elsewhere, for who has no causal attention. */
export function transformerData(sizes: TransformerSizes): TrainingData {
  const { batch, sequence, width, inner, vocabulary } = sizes;
  const random = randomSource(2);
  const projection = (inputs: number, outputs: number) => normals(random, [inputs, outputs], 1 / Math.sqrt(inputs));
  const ids = draws(random, [batch, sequence], vocabulary);
  const labels = draws(random, [batch, sequence], vocabulary);
  const mask = Float32Array.from(
    { length: sequence ** 2 },
    (_, i) => i % sequence > Math.floor(i / sequence) ? -1e9 : 0,
  );
  return {
    parameters: {
      embedding: normals(random, [vocabulary, width], 0.02),
      positions: normals(random, [sequence, width], 0.02),
      attentionScale: constant(width, 1),
      attentionBias: constant(width, 0),
      qkv: projection(width, 3 * width),
      output: projection(width, width),
      bodyScale: constant(width, 1),
      bodyBias: constant(width, 0),
      up: projection(width, inner),
      upBias: constant(inner, 0),
      down: projection(inner, width),
      downBias: constant(width, 0),
      finalScale: constant(width, 1),
      finalBias: constant(width, 0),
      unembedding: projection(width, vocabulary),
    },
    batch: {
      ids,
      labels,
      oneHotIds: oneHot(ids, vocabulary),
      oneHotLabels: oneHot(labels, vocabulary),
      mask: floats([sequence, sequence], mask),
    },
  };
}
