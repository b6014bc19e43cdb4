import { assertAlmostEquals, assertEquals } from "@std/assert";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { ones, tensor, zeros } from "../../src/ops/creation.ts";
import { entropyRegularizer } from "../../src/routing/entropy_regularizer.ts";
import { fromGolden, type GoldenTensor, readGolden } from "../support/golden.ts";
import { gpuTest, oracleTest } from "../support/runtimes.ts";
import { assertClose, type Tolerance } from "../support/tolerance.ts";

interface Case {
  readonly name: string;
  readonly logits: GoldenTensor;
  readonly mask: GoldenTensor;
  readonly value: number;
  readonly gradient: GoldenTensor;
}

const { cases } = await readGolden<{ readonly cases: readonly Case[] }>("entropy.json");

async function checkCases(tolerance: Tolerance): Promise<void> {
  for (const { name, logits, mask, value, gradient } of cases) {
    const kept = fromGolden(mask);
    const [loss, pull] = vjp((x: Tensor) => entropyRegularizer(x, kept), fromGolden(logits));
    const found = await read({ loss, gradient: pull(ones([]))[0] });
    assertClose(found.loss, [value], tolerance, name);
    assertClose(found.gradient, gradient.data, tolerance, `${name}: gradient`);
  }
}

oracleTest(
  "entropyRegularizer() agrees with torch's run of its formula",
  () => checkCases({ relative: 1e-6, absolute: 1e-7 }),
);
gpuTest(
  "entropyRegularizer() agrees with torch's run of its formula",
  () => checkCases({ relative: 2e-5, absolute: 2e-6 }),
);

oracleTest("entropyRegularizer() is lowest where experts are even, and 0 where one takes everything", async () => {
  assertAlmostEquals(await entropyRegularizer(zeros([5, 4])).item(), -Math.log(4), 1e-12);
  const one = tensor([[90, 0, 0], [90, 0, 0]]);
  assertAlmostEquals(await entropyRegularizer(one).item(), 0, 1e-12);
  // Sure tokens that are even over the batch are as good as unsure ones.
  const sure = tensor([[90, 0], [0, 90]]);
  assertAlmostEquals(await entropyRegularizer(sure).item(), -Math.log(2), 1e-12);
  assertEquals(entropyRegularizer(sure).shape, []);
});
