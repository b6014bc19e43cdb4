/**
 * Kernels laid out for a GPU read and store both half precisions as the float64 oracle says: products in all layouts, rows,
 * attention, experts and segments, each with its gradients.
 */
import { assertEquals } from "@std/assert";
import { installRuntime } from "../../src/core/runtime.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { causalAttention } from "../../src/ops/attention.ts";
import { add, cast, crossEntropy, layerNorm, matmul, softmax, tensor } from "../../src/ops/mod.ts";
import { execute } from "../../src/routing/execute.ts";
import { planFromTopK } from "../../src/routing/plan.ts";
import { executeSegments } from "../../src/routing/segment.ts";
import { assertClose, gpuTest, withOracle } from "../support/check_primitive.ts";
import { uniformTensor } from "../support/draw.ts";
import { startRuntime } from "./support/fuzz_runtimes.ts";

type Half = "f16" | "bf16";

/** A few roundings to the type: of results and of what is stored on the way to gradients. */
const TOLERANCE = { f16: { relative: 4e-3, absolute: 4e-3 }, bf16: { relative: 3e-2, absolute: 3e-2 } } as const;

const [TOKENS, EXPERTS, WIDTH] = [50, 3, 20];

function planOf(weights: Tensor) {
  const indices = Uint32Array.from({ length: TOKENS * 2 }, (_, i) => (i * i + (i & 1)) % EXPERTS);
  return planFromTopK({ indices: tensor(indices, { shape: [TOKENS, 2], dtype: "u32" }), weights, experts: EXPERTS });
}

/** Functions of operands of half precision, and the shapes of these. */
const SUBJECTS: Readonly<Record<string, readonly [(...args: Tensor[]) => Tensor, ...number[][]]>> = {
  "product": [(a, b) => matmul(a!, b!), [33, 37], [37, 66]],
  "product, few rows, split depth": [(a, b) => matmul(a!, b!), [4, 1032], [1032, 20]],
  "product, left transposed, batches": [(a, b) => matmul(a!, b!, { transposeA: true }), [2, 36, 40], [36, 70]],
  "product, right transposed": [(a, b) => matmul(a!, b!, { transposeB: true }), [70, 20], [36, 20]],
  "product, bias": [(a, b, c) => add(matmul(a!, b!, { transposeA: true, transposeB: true }), c!), [9, 35], [6, 9], [6]],
  "softmax": [(x) => softmax(x!), [5, 300]],
  "layerNorm": [(x, scale, bias) => layerNorm(x!, { scale: scale!, bias: bias! }), [7, 68], [68], [68]],
  "crossEntropy": [
    (x) => crossEntropy(x!, tensor(Uint32Array.of(4, 0, 96), { shape: [3], dtype: "u32" })),
    [3, 97],
  ],
  "attention": [(q, k, v) => causalAttention(q!, k!, v!), [3, 67, 12], [3, 67, 12], [3, 67, 12]],
  "experts": [
    (x, up, down) =>
      execute(planOf(uniformTensor([TOKENS, 2], 9)), x!, { up: up!, down: down! }, { activation: "silu" }),
    [TOKENS, WIDTH],
    [EXPERTS, WIDTH, 28],
    [EXPERTS, 28, WIDTH],
  ],
  "segments": [
    (x, weight) => executeSegments(planOf(uniformTensor([TOKENS, 2], 9)), x!, { weight: weight! }),
    [TOKENS, WIDTH],
    [EXPERTS, WIDTH, 12],
  ],
};

/** A result and the gradients of all operands for a random cotangent. */
async function withGradients(name: string, dtype: Half): Promise<Readonly<Record<string, ArrayLike<number>>>> {
  const [apply, ...shapes] = SUBJECTS[name]!;
  const args = shapes.map((shape, i) => uniformTensor(shape, i + 1, { dtype, limit: 1 }));
  const [out, pull] = vjp(apply, ...args);
  const gradients = pull(cast(uniformTensor(out.shape, 77), out.dtype));
  gradients.forEach((each, i) => assertEquals(each.dtype, dtype, `gradient ${i} of ${name}`));
  return await read({ out, ...Object.fromEntries(gradients.map((each, i) => [`gradient ${i}`, each])) });
}

gpuTest("kernels for hardware compute both half precisions like the oracle", async () => {
  const runtime = await startRuntime({ adapterClass: "hardware", buffers: 32 });
  const types: readonly Half[] = runtime.device.features.has("shader-f16") ? ["f16", "bf16"] : ["bf16"];
  for (const dtype of types) {
    for (const name of Object.keys(SUBJECTS)) {
      const expected = await withOracle(() => withGradients(name, dtype));
      const previous = installRuntime(runtime);
      try {
        const found = await withGradients(name, dtype);
        for (const [key, values] of Object.entries(expected)) {
          assertClose(found[key]!, values, TOLERANCE[dtype], `${key} of ${name}, ${dtype}`);
        }
      } finally {
        installRuntime(previous);
      }
    }
  }
});
