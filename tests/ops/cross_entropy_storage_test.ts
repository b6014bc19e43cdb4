/**
 * What a training step stores of its vocabulary: the logits once and their gradient once, and no probability.
 */
import { assertEquals } from "@std/assert";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { languageModelLoss } from "../../src/layers/language_model_loss.ts";
import { transformerLm } from "../../src/layers/transformer_lm.ts";
import { crossEntropy, key, matmul, tensor, zeros } from "../../src/ops/mod.ts";
import { adam, trainState, trainStep } from "../../src/optim/mod.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "../gpu/support/compile.ts";
import { gpuTest } from "../support/runtimes.ts";

/** Values of tokens x vocabulary that the dispatches of a printed program write, whatever their leading axes. */
function storedRows(program: string, tokens: number, vocabulary: number): number {
  const written = program.split("\n").flatMap((line) => line.split(" -> ")[1]?.match(/\[[\d, ]+\]/g) ?? []);
  const sizes = written.map((text) => JSON.parse(text) as number[]);
  return sizes.filter((shape) => shape.at(-1) === vocabulary && shape.reduce((a, b) => a * b) === tokens * vocabulary)
    .length;
}

// Rows of 70,000 are more than one invocation may loop over, so their sums are split.
for (const vocabulary of [300, 20_000, 70_000]) {
  for (const adapter of [SOFTWARE, HARDWARE]) {
    Deno.test(`the loss over ${vocabulary} classes stores logits and gradient alone on ${adapter.name} adapters`, () => {
      const tokens = 48;
      const program = compile(
        (x: Tensor, w: Tensor, targets: Tensor) => {
          const [loss, pull] = vjp((x: Tensor, w: Tensor) => crossEntropy(matmul(x, w), targets), x, w);
          return [loss, ...pull(tensor(1))];
        },
        [f32(tokens, 16), f32(16, vocabulary), { shape: [tokens], dtype: "u32" }],
        { adapter },
      );
      assertEquals(storedRows(String(program), tokens, vocabulary), 2, String(program));
    });
  }
}

for (const vocabulary of [300, 70_000]) {
  gpuTest(`a training step over ${vocabulary} tokens stores logits and their gradient alone`, () => {
    const model = transformerLm({
      vocabulary,
      width: 16,
      layers: 1,
      heads: 2,
      body: () => feedForward({ width: 16, inner: 32 }),
    });
    const optimizer = adam({ learningRate: 0.01 });
    const step = trainStep({
      loss: (params: ReturnType<typeof model.init>, ids: Tensor) =>
        languageModelLoss(model.apply(params, { ids }, { train: true }), ids).loss,
      optimizer,
    });
    const state = trainState({ params: model.init(key(1)), optimizer, key: key(2) });
    const program = step.program(state, zeros([2, 12], { dtype: "u32" }));
    assertEquals(storedRows(program, 24, vocabulary), 2, program);
  });
}
