/**
 * Work of more than 65,535 steps for one element: the software adapter stops an invocation there without a word, so every
 * kernel has to split it. `split_test.ts` has the sums and extrema.
 */
import { assertRejects } from "@std/assert";
import { OutOfMemoryError } from "../../src/core/errors.ts";
import { read } from "../../src/core/realize.ts";
import type { Shape } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { cachedAttention, causalAttention } from "../../src/ops/attention.ts";
import { MAX_ITERATIONS } from "../../src/ops/kernel_text.ts";
import {
  argmax,
  crossEntropy,
  cumsum,
  layerNorm,
  logSoftmax,
  matmul,
  softmax,
  sort,
  take,
  tensor,
  topK,
  zeros,
} from "../../src/ops/mod.ts";
import { executeSegments } from "../../src/routing/segment.ts";
import { caseGradients, casePlan } from "../routing/support/expert_case.ts";
import { randomSource } from "../support/random.ts";
import { gpuTest, withOracle } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";
import { uniformTensor } from "../support/draw.ts";

const LONG = 70_001;
/** Sums of 70,000 terms in f32. */
const LONG_SUM = { relative: 1e-4, absolute: 1e-4 };

function drawn(shape: Shape, seed: number): Tensor {
  return uniformTensor(shape, seed, { limit: 1 });
}

type Computed = Readonly<Record<string, Tensor>>;

/** A function's result, and the gradient of every argument for a random cotangent. */
function withGradients(f: (...args: Tensor[]) => Tensor, ...args: readonly Tensor[]): Computed {
  const [out, pull] = vjp(f, ...args);
  const gradients = pull(drawn(out.shape, 99));
  return { out, ...Object.fromEntries(gradients.map((gradient, i) => [`gradient ${i}`, gradient])) };
}

async function expectLikeOracle(label: string, compute: () => Computed): Promise<void> {
  const expected = await withOracle(async () => await read(compute()));
  const found = await read(compute());
  for (const [name, values] of Object.entries(expected)) {
    assertClose(found[name]!, values, LONG_SUM, `${label}: ${name}`);
  }
}

async function checkProducts(): Promise<void> {
  const shapes: readonly (readonly [a: Shape, b: Shape, transposeB: boolean])[] = [
    [[3, LONG], [LONG, 2], false],
    [[3, LONG], [2, LONG], true],
    // Here the gradient of the right operand adds over all rows.
    [[LONG, 3], [3, 2], false],
  ];
  for (const [a, b, transposeB] of shapes) {
    await expectLikeOracle(
      `[${a}] x [${b}]`,
      () => withGradients((x, y) => matmul(x!, y!, { transposeB }), drawn(a, 1), drawn(b, 2)),
    );
  }
}

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(
    `products of a long depth are right with kernels as for ${adapterClass}, and so are their gradients`,
    () => withAdapterClass(adapterClass, checkProducts),
  );
}

async function checkExperts(): Promise<void> {
  const few = { choices: [[0, 1], [1, 2], [2, 0]], experts: 3, activation: "relu" } as const;
  await expectLikeOracle("inner", () => caseGradients({ ...few, width: 3, inner: LONG }));
  await expectLikeOracle("width", () => caseGradients({ ...few, width: LONG, inner: 2 }));
}

// Only software adapters stop invocations: kernels for GPUs may loop as long as they like.
for (const adapterClass of ["software", "software with textures"] as const) {
  gpuTest(
    `experts of long rows are right with kernels as for ${adapterClass}, and so are their gradients`,
    () => withAdapterClass(adapterClass, checkExperts),
  );
}

gpuTest("rows longer than an invocation may loop: softmax, norms, cross-entropy, and their gradients", async () => {
  for (const rows of [1, 3]) {
    await expectLikeOracle(`softmax of ${rows}`, () => withGradients((x) => softmax(x!), drawn([rows, LONG], rows)));
  }
  // So many rows keep a device busy, and are split only as far as an invocation's loops ask for.
  await expectLikeOracle("softmax of 65", () => ({ out: softmax(drawn([65, 66_000], 3)) }));
  const x = () => drawn([3, LONG], 4);
  await expectLikeOracle("logSoftmax", () => withGradients((x) => logSoftmax(x!), x()));
  await expectLikeOracle(
    "layerNorm",
    () => withGradients((x, scale) => layerNorm(x!, { scale: scale! }), x(), drawn([LONG], 5)),
  );
  const targets = () => tensor([0, 65_537, LONG - 1], { dtype: "u32" });
  await expectLikeOracle("crossEntropy", () => withGradients((x) => crossEntropy(x!, targets()), x()));
  await expectLikeOracle(
    "crossEntropy with smoothing",
    () => withGradients((x) => crossEntropy(x!, targets(), { labelSmoothing: 0.1 }), x()),
  );
});

gpuTest("lines longer than an invocation may loop: cumsum and its gradient, sort, topK, argmax", async () => {
  await expectLikeOracle("cumsum", () => withGradients((x) => cumsum(x!, { axis: 0 }), drawn([LONG, 2], 6)));
  await expectLikeOracle("order", () => {
    const x = drawn([2, LONG], 7);
    const { values, indices } = topK(x, 3);
    return { sorted: sort(x), values, indices, largest: argmax(x, { axis: 1 }) };
  });
});

gpuTest("more reads of one row than an invocation may loop over: the gradient of an embedding", async () => {
  const ids = () => tensor(Uint32Array.from({ length: LONG }, (_, i) => i % 1000 === 7 ? 0 : 2));
  await expectLikeOracle("take", () => withGradients((x) => take(x!, ids(), { axis: 0 }), drawn([4, 3], 8)));
});

gpuTest("more assignments of one token, and more experts, than an invocation may loop over", async () => {
  const long = Array.from({ length: LONG }, (_, i) => i % 3);
  await expectLikeOracle(
    "one token",
    () => caseGradients({ choices: [[1], long, []], experts: 3, width: 2, inner: 1, activation: "relu" }),
  );
  await expectLikeOracle("experts", () =>
    caseGradients({
      choices: [[0, 69_999], [65_536, 3], [70_000, 65_535]],
      experts: 70_000,
      width: 1,
      inner: 2,
      activation: "relu",
    }));
});

gpuTest("segments of matrices of long rows are right, and so are their gradients", async () => {
  const plan = () => casePlan({ choices: [[1], [0], [1]], experts: 2, width: 1, inner: 1 }, drawn([3], 1));
  for (const [inputs, outputs] of [[LONG, 2], [2, LONG]] as const) {
    await expectLikeOracle(`${inputs} to ${outputs}`, () =>
      withGradients(
        (x, weight) => executeSegments(plan(), x!, { weight: weight! }),
        drawn([3, inputs], 9),
        drawn([2, inputs, outputs], 10),
      ));
  }
});

gpuTest("a cache of more places than an invocation may loop over", () =>
  expectLikeOracle("cachedAttention", () => ({
    out: cachedAttention(
      drawn([2, 1, 2], 11),
      drawn([2, 1, LONG, 2], 12),
      drawn([2, 1, LONG, 2], 13),
      tensor([LONG - 1, 66_000], { dtype: "u32" }),
    ),
  })));

gpuTest("causalAttention() over more positions than an invocation may loop over is refused by name", async () => {
  const x = zeros([LONG, 1]);
  await assertRejects(() => causalAttention(x, x, x).data(), OutOfMemoryError, "f32[70001, 70001]");
});

/** Queries of zero attend evenly to all that is visible, which prefix sums say. */
gpuTest("causalAttention() over as many positions as its kernels take, forward and backward", async () => {
  const length = MAX_ITERATIONS;
  const draw = (seed: number) => Float32Array.from(randomSource(seed).normals(length));
  const [keys, values, cotangent] = [draw(1), draw(2), draw(3)];
  const [out, dq, dv] = [new Float64Array(length), new Float64Array(length), new Float64Array(length)];
  let [sumK, sumV, sumKV] = [0, 0, 0];
  for (let i = 0; i < length; i++) {
    [sumK, sumV, sumKV] = [sumK + keys[i]!, sumV + values[i]!, sumKV + keys[i]! * values[i]!];
    const seen = i + 1;
    out[i] = sumV / seen;
    dq[i] = cotangent[i]! * (sumKV / seen - out[i]! * sumK / seen);
  }
  let share = 0;
  for (let j = length - 1; j >= 0; j--) dv[j] = share += cotangent[j]! / (j + 1);

  const column = (data: Float32Array) => tensor(data, { shape: [length, 1] });
  const attend = (q: Tensor, k: Tensor, v: Tensor) => causalAttention(q, k, v, { scale: 1 });
  const [attended, pull] = vjp(attend, zeros([length, 1]), column(keys), column(values));
  const [foundQ, foundK, foundV] = pull(column(cotangent));
  const found = await read({ out: attended, dq: foundQ, dk: foundK, dv: foundV });
  for (const [name, expected] of Object.entries({ out, dq, dk: new Float64Array(length), dv })) {
    assertClose(found[name as keyof typeof found], expected, LONG_SUM, name);
  }
});
