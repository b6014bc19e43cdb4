import { assert, assertEquals } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { mapTree } from "../../src/core/tree.ts";
import { vjp } from "../../src/core/vjp.ts";
import { cast } from "../../src/ops/cast.ts";
import { type HalfType, roundTo } from "../../src/ops/round_to.ts";
import { assertClose, gpuTest, withOracle } from "../support/check_primitive.ts";
import { toleranceFor } from "../support/tolerance.ts";
import { TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";
import {
  type CaseTensors,
  caseTensors,
  drawCotangent,
  drawValues,
  executeCase,
  type ExpertCase,
  randomChoices,
} from "./support/expert_case.ts";

/** Cases that between them store by fours and one by one, fused and as a pair, with one expert a token and several. */
const CASES: Readonly<Record<string, ExpertCase>> = {
  "k = 1 with dropped tokens, kept as halves": {
    choices: randomChoices({ tokens: 45, k: 1, experts: 3, drop: 0.3 }),
    experts: 3,
    width: 20,
    inner: 36,
    activation: "relu",
    biases: ["upBias", "downBias"],
  },
  "k = 2, gated, widths for copies": {
    choices: randomChoices({ tokens: 60, k: 2, experts: 3 }),
    experts: 3,
    width: 64,
    inner: 128,
    activation: "silu",
    body: "glu",
  },
  "k = 2, odd widths, gated": {
    choices: randomChoices({ tokens: 33, k: 2, experts: 4, drop: 0.2 }),
    experts: 4,
    width: 5,
    inner: 7,
    body: "glu",
    biases: ["upBias", "downBias", "gateBias"],
  },
  "k = 1, many rows, recomputed": {
    choices: randomChoices({ tokens: 300, k: 1, experts: 2 }),
    experts: 2,
    width: 12,
    inner: 20,
    preactivations: "recomputed",
  },
  "k = 2, inner rows too many for workgroup memory, weights on the input": {
    choices: randomChoices({ tokens: 20, k: 2, experts: 3 }),
    experts: 3,
    width: 12,
    inner: 600,
    scaleAt: "input",
  },
};

/** Operands of a case as mixed precision has them: rounded while the function runs, f32 outside. */
function narrow({ hidden, weight, params }: CaseTensors, dtype: HalfType): CaseTensors {
  return { hidden: roundTo(hidden, dtype), weight, params: mapTree(params, (x) => roundTo(x, dtype)) };
}

/** The result and the gradients of all operands, of parameters that are f32 or half precision themselves. */
async function resultAndGradients(one: ExpertCase, dtype: HalfType, stored: "f32" | "half") {
  const wide = caseTensors(one, drawValues(one));
  const tensors = stored === "f32" ? wide : narrow(wide, dtype);
  const [out, pull] = vjp((own: CaseTensors) => executeCase(one, narrow(own, dtype)), tensors);
  const [{ hidden, weight, params }] = pull(cast(drawCotangent(one), dtype));
  assertEquals([out.dtype, hidden.dtype, weight.dtype], [dtype, stored === "f32" ? "f32" : dtype, "f32"]);
  return await read({ out, hidden, weight, ...params } as Record<string, Tensor>);
}

const hasF16 = (await navigator.gpu?.requestAdapter())?.features.has("shader-f16") ?? false;

for (const dtype of hasF16 ? ["bf16", "f16"] as const : ["bf16"] as const) {
  for (const adapterClass of TEXTURE_CLASSES) {
    gpuTest(`execute() in ${dtype} has right ${adapterClass} kernels, forward and backward`, async () => {
      for (const [name, one] of Object.entries(CASES)) {
        const stored = name.startsWith("k = 1") ? "f32" : "half";
        const expected = await withOracle(() => resultAndGradients(one, dtype, stored));
        const found = await withAdapterClass(adapterClass, () => resultAndGradients(one, dtype, stored), {
          f16: dtype === "f16",
        });
        for (const [key, values] of Object.entries(expected)) {
          assertClose(found[key]!, values, toleranceFor(dtype), `${name}: ${key}`);
        }
      }
    });
  }
}

gpuTest(
  "execute() in half precision keeps pre-activations as halves, and no rounded copies of parameters",
  async () => {
    const one = CASES["k = 1 with dropped tokens, kept as halves"]!;
    const tensors = caseTensors(one, drawValues(one));
    const cotangent = cast(drawCotangent(one), "bf16");
    for (const adapterClass of TEXTURE_CLASSES) {
      await withAdapterClass(adapterClass, async () => {
        const step = jit((own: CaseTensors) => {
          const [out, pull] = vjp((other: CaseTensors) => executeCase(one, narrow(other, "bf16")), own);
          return { out, gradients: pull(cotangent) };
        });
        const printed = String(await step.program(tensors));
        assert(printed.includes("bf16[45, 36]"), printed);
        assert(!/bf16\[3, (20, 36|36, 20)\]/.test(printed), printed);
        const [backward] = printed.split("\n").filter((line) => line.includes("experts backward"));
        assert(!backward!.includes("f32[45, 36]"), printed);
      });
    }
  },
);
