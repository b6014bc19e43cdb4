import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DonatedError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, exp, mul, sub, sum, tensor, transpose } from "../../src/ops/mod.ts";
import { gpuTest } from "../support/runtimes.ts";
import { dedent, withoutLines } from "./support/messages.ts";

interface State {
  readonly params: { readonly layers: readonly { readonly weight: Tensor }[]; readonly head: Tensor };
}

function freshState(): State {
  return { params: { layers: [{ weight: tensor([1, 2]) }], head: tensor([3, 4]) } };
}

function makeStep(): (state: State) => State {
  return jit(
    ({ params }: State) => ({
      params: { layers: params.layers.map(({ weight }) => ({ weight: mul(weight, 2) })), head: sub(params.head, 1) },
    }),
    { donate: [0], name: "trainStep" },
  );
}

gpuTest("using a donated tensor names it, the call that took it and both places", async () => {
  const step = makeStep();
  const state = freshState();
  step(step(state));
  const error = assertThrows(() => add(state.params.layers[0]!.weight, 1), DonatedError);
  assertEquals(error.code, "memory/donated");
  assertEquals(
    withoutLines(error),
    dedent(`
      Cannot apply add to tensor f32[2]: its buffer was donated
        tensor   argument 0, .params.layers[0].weight
        donated  to trainStep (donate: [0]), call 1, FILE:LINE
        used     FILE:LINE
      Fix: use the value that call 1 returned, or remove 0 from donate`),
  );
  await assertRejects(
    () => state.params.head.data(),
    DonatedError,
    "Cannot read tensor f32[2]: its buffer was donated",
  );
  await assertRejects(() => read(state), DonatedError, ".params.layers[0].weight");
});

gpuTest("donating a state twice is the same error", () => {
  const step = makeStep();
  const state = freshState();
  step(state);
  const error = assertThrows(() => step(state), DonatedError);
  assertEquals(
    withoutLines(error).split("\n").slice(0, 2),
    [
      "Cannot call trainStep with tensor f32[2]: its buffer was donated",
      "  tensor   argument 0, .params.layers[0].weight",
    ],
  );
});

gpuTest("a lazy value of a donated tensor cannot be computed any more, and says why", async () => {
  const state = freshState();
  const lazy = add(state.params.head, 1);
  makeStep()(state);
  await assertRejects(() => lazy.data(), DonatedError, "Cannot compute with tensor f32[2]: its buffer was donated");
});

gpuTest("two names for one donated tensor are refused with both paths, before anything is lost", async () => {
  const step = makeStep();
  const shared = tensor([1, 2]);
  const state: State = { params: { layers: [{ weight: shared }], head: shared } };
  const error = assertThrows(() => step(state), DonatedError);
  assertEquals(error.code, "memory/donated-alias");
  assertEquals(
    withoutLines(error),
    dedent(`
      Cannot donate argument 0 to trainStep: leaves .params.layers[0].weight and .params.head are the same tensor
        tensor  f32[2]
        at      FILE:LINE
      Fix: pass each donated tensor once, and do not use it anywhere else in the call`),
  );
  assertEquals([...await shared.data()], [1, 2]);
});

gpuTest("a tensor that is donated and passed beside it, or captured, is refused", () => {
  const x = tensor([1, 2]);
  const beside = jit((a: Tensor, b: Tensor) => add(a, b), { donate: [0], name: "beside" });
  assertEquals(
    withoutLines(assertThrows(() => beside(x, x), DonatedError)).split("\n")[0],
    "Cannot donate argument 0 to beside: argument 0 and argument 1 are the same tensor",
  );
  const captures = jit((a: Tensor) => add(a, x), { donate: [0], name: "captures" });
  assertEquals(
    withoutLines(assertThrows(() => captures(x), DonatedError)),
    dedent(`
      Cannot donate argument 0 to captures: the function also captures it
        tensor  f32[2]
        at      FILE:LINE
      Fix: pass each donated tensor once, and do not use it anywhere else in the call`),
  );
});

gpuTest("a donation that no result can take over is refused when the function is compiled", () => {
  const total = jit((state: { x: Tensor }) => sum(state.x), { donate: [0], name: "total" });
  const error = assertThrows(() => total({ x: tensor([1, 2, 3]) }), DonatedError);
  assertEquals(error.code, "memory/donated-unusable");
  assertEquals(
    withoutLines(error),
    dedent(`
      Cannot use the donation of argument 0 to total: no result is left of the size of .x
        tensor  f32[3], 12 bytes
        at      FILE:LINE
      Fix: donate only arguments that the function replaces by results of the same size`),
  );
});

gpuTest("a read submitted before a donation sees the values from before it", async () => {
  const step = jit((x: Tensor) => mul(x, 2), { donate: [0] });
  let x = tensor(Float32Array.from({ length: 100_000 }, (_, i) => i));
  const reads: Promise<ArrayLike<number>>[] = [];
  for (let i = 0; i < 4; i++) {
    reads.push(x.data());
    x = step(x);
  }
  const found = await Promise.all(reads);
  assertEquals(found.map((data) => data[3]), [3, 6, 12, 24]);
  assertEquals((await x.data())[3], 48);
});

gpuTest("a donated result that is the argument itself, and its duplicate, keep the value", async () => {
  const f = jit((x: Tensor) => ({ same: x, again: x, plus: add(x, 1) }), { donate: [0] });
  const found = await read(f(tensor([1, 2, 3])));
  assertEquals([[...found.same], [...found.again], [...found.plus]], [[1, 2, 3], [1, 2, 3], [2, 3, 4]]);
});

gpuTest("donating swaps and permutations of buffers loses nothing", async () => {
  const rotate = jit((a: Tensor, b: Tensor, c: Tensor) => [b, c, a] as const, { donate: [0, 1, 2] });
  const mix = jit((a: Tensor, b: Tensor) => [sub(b, a), add(a, b)] as const, { donate: [0, 1] });
  const [a, b, c] = rotate(tensor([1]), tensor([2]), tensor([3]));
  assertEquals(await Promise.all([a, b, c].map((x) => x.item())), [2, 3, 1]);
  const [d, e] = mix(a, b);
  assertEquals([await d.item(), await e.item()], [1, 5]);
});

gpuTest("an argument whose other elements are still read is not overwritten", async () => {
  const size = 96;
  const expensive = (x: Tensor) => exp(exp(exp(exp(exp(mul(x, 0.01))))));
  const f = (x: Tensor) => {
    const shared = expensive(x);
    const across = add(transpose(shared), 1);
    return [across, add(across, shared), add(x, transpose(x))];
  };
  const make = () =>
    tensor(Float32Array.from({ length: size * size }, (_, i) => (i * 37) % 11), { shape: [size, size] });
  const expected = await read(jit(f)(make()));
  const found = await read(jit(f, { donate: [0] })(make()));
  expected.forEach((data, i) => assertEquals(found[i], data));
});

gpuTest("what was not donated can be used as before", async () => {
  const step = jit((state: Tensor, batch: Tensor) => add(state, batch), { donate: [0] });
  const batch = tensor([1, 1]);
  let state = tensor([0, 0]);
  for (let i = 0; i < 3; i++) state = step(state, batch);
  assertEquals([[...await state.data()], [...await batch.data()]], [[3, 3], [1, 1]]);
});
