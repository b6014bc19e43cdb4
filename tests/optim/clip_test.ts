import { assertAlmostEquals, assertEquals } from "@std/assert";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensor } from "../../src/ops/creation.ts";
import { clipByGlobalNorm, globalNorm } from "../../src/optim/mod.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere } from "./problem.ts";

type Leaves<T> = Readonly<Record<"matrix" | "vector", T>>;

const { clipping } = await readGolden<{
  readonly clipping: {
    readonly gradients: Leaves<GoldenTensor>;
    readonly globalNorm: number;
    readonly cases: readonly { readonly maxNorm: number; readonly clipped: Leaves<GoldenTensor> }[];
  };
}>("optim.json");

function gradients(): Leaves<Tensor> {
  return { matrix: fromGolden(clipping.gradients.matrix), vector: fromGolden(clipping.gradients.vector) };
}

everywhere("globalNorm() is taken over all float leaves", async () => {
  const tree = { ...gradients(), table: tensor([1000], { dtype: "u32" }) };
  assertAlmostEquals(await globalNorm(tree).item(), clipping.globalNorm, 1e-5);
  assertEquals(await globalNorm({ table: tree.table }).item(), 0);
});

for (const { maxNorm, clipped } of clipping.cases) {
  everywhere(`clipByGlobalNorm(${maxNorm}) clips as optax does`, async () => {
    const [updates] = clipByGlobalNorm(maxNorm).update(gradients(), null, gradients());
    const found = await read(updates);
    assertClose(found.matrix, clipped.matrix.data, { relative: 1e-5, absolute: 1e-7 }, "matrix");
    assertClose(found.vector, clipped.vector.data, { relative: 1e-5, absolute: 1e-7 }, "vector");
  });
}

everywhere("clipByGlobalNorm() passes short updates bit for bit, zeros too", async () => {
  for (const update of [tensor([0.1, -0.7]), tensor([0, 0])]) {
    const [clipped] = clipByGlobalNorm(1).update(update, null, update);
    assertEquals([...await clipped.data()], [...await update.data()]);
  }
});
