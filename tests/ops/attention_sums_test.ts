/**
 * The logarithms of the sums, which attention keeps for its backward, are written only where a backward reads them.
 */
import { assertEquals } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { causalAttention } from "../../src/ops/attention.ts";
import { mul } from "../../src/ops/binary.ts";
import { sum } from "../../src/ops/reduce.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "../gpu/support/compile.ts";
import { assertClose, gpuTest, withOracle } from "../support/check_primitive.ts";
import { uniformTensor } from "../support/draw.ts";

const SHAPE = [2, 3, 40, 8];

function attend(q: Tensor, k: Tensor, v: Tensor): Tensor {
  return causalAttention(q, k, v);
}

function attendAndDifferentiate(q: Tensor, k: Tensor, v: Tensor): readonly Tensor[] {
  const out = attend(q, k, v);
  return [out, grad((q: Tensor) => sum(mul(attend(q, k, v), v)))(q)];
}

/** Buffers that the forward's kernel of a program writes. */
function writtenBy(f: (q: Tensor, k: Tensor, v: Tensor) => unknown, adapter: typeof SOFTWARE): number {
  const args = [f32(...SHAPE), f32(...SHAPE), f32(...SHAPE)];
  const { dispatches } = compile(f as (...args: Tensor[]) => unknown, args, { adapter });
  const forward = dispatches.find(({ label }) => /^attention \d/.test(label))!;
  return forward.bindings.filter(({ access }) => access === "read_write").length;
}

for (const adapter of [SOFTWARE, HARDWARE]) {
  Deno.test(`attention by itself writes its result alone (${adapter.name} adapter)`, () => {
    assertEquals(writtenBy(attend, adapter), 1);
    assertEquals(writtenBy(attendAndDifferentiate, adapter), 2);
  });
}

Deno.test("what nobody reads takes no memory", () => {
  const args = [f32(...SHAPE), f32(...SHAPE), f32(...SHAPE)];
  const program = compile(attend as (...args: Tensor[]) => unknown, args, { adapter: HARDWARE });
  assertEquals(program.scratchBytes, 0);
});

gpuTest("attention with and without the sums it keeps is the same", async () => {
  const run = async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => uniformTensor(SHAPE, seed)) as [Tensor, Tensor, Tensor];
    // One program each: the second has a backward.
    const [kept] = await read(attendAndDifferentiate(q, k, v));
    return { alone: await attend(q, k, v).data(), kept: kept! };
  };
  const found = await run();
  assertEquals(found.alone, found.kept);
  assertClose(found.alone, (await withOracle(run)).alone, { relative: 3e-5, absolute: 1e-5 }, "result");
});
