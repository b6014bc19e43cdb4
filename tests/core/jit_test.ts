import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DonatedError, KeyReuseError, ReleasedError, TraceError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { Key } from "../../src/core/key.ts";
import type { HostData } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { add, mul, sub } from "../../src/ops/binary.ts";
import { ones, scalar, tensor, zeros } from "../../src/ops/creation.ts";
import { sum } from "../../src/ops/reduce.ts";
import { square } from "../../src/ops/unary.ts";
import { gpuTest, oracleTest } from "../support/check_primitive.ts";

/** Messages hold the caller's line, which moves when this file changes. */
function withoutLines(error: Error): string {
  return error.message.replaceAll(/[\w.]+\.ts:\d+:\d+/g, "FILE:LINE");
}

for (const test of [oracleTest, gpuTest]) {
  test("jit() traces once for each shape and static value", async () => {
    const f = jit(function scale(x: Tensor, options: { factor: number }): Tensor {
      return mul(x, options.factor);
    });
    assertEquals([...await f(tensor([1, 2]), { factor: 3 }).data()], [3, 6]);
    assertEquals([...await f(tensor([5, 6]), { factor: 3 }).data()], [15, 18]);
    assertEquals(f.traces, 1);
    assertEquals([...await f(tensor([1, 2]), { factor: 4 }).data()], [4, 8]);
    assertEquals([...await f(tensor([1]), { factor: 4 }).data()], [4]);
    assertEquals(f.traces, 3);
  });

  test("jit() returns trees with arguments, constants and statics in them", async () => {
    const captured = tensor([7, 8]);
    const f = jit((x: Tensor) => ({ x, captured, twice: [add(x, x), "label", 3] as const, none: null }));
    const found = f(tensor([1, 2]));
    assertEquals([...await found.x.data()], [1, 2]);
    assertEquals([...await found.captured.data()], [7, 8]);
    assertEquals([...await found.twice[0].data()], [2, 4]);
    assertEquals([found.twice[1], found.twice[2], found.none], ["label", 3, null]);
  });

  test("jit() inside grad() is inlined, and grad() inside jit() compiles", async () => {
    const f = jit((x: Tensor) => sum(square(x)));
    assertEquals([...await grad(f)(tensor([1, 2])).data()], [2, 4]);
    assertEquals([...await jit(grad(f))(tensor([1, 2])).data()], [2, 4]);
    assertEquals(f.traces, 0);
  });

  test("donate lets a step replace its state many times", async () => {
    const step = jit((state: { w: Tensor }, gradient: Tensor) => ({ w: sub(state.w, mul(gradient, 0.5)) }), {
      donate: [0],
    });
    let state = { w: tensor([10, 20]) };
    for (let i = 0; i < 5; i++) state = step(state, ones([2]));
    assertEquals([...await state.w.data()], [7.5, 17.5]);
    assertEquals(step.traces, 1);
  });

  test("donate makes later use throw DonatedError", async () => {
    const step = jit((state: { w: Tensor }) => ({ w: mul(state.w, 2) }), { donate: [0], name: "step" });
    const state = { w: tensor([1, 2]) };
    step(state);
    const used = assertThrows(() => add(state.w, 1), DonatedError);
    assertEquals(used.code, "memory/donated");
    assertEquals(
      withoutLines(used),
      "Cannot apply add to tensor f32[2]: its buffer was donated\n  tensor   argument 0, .w\n  donated  to step (donate: [0]), call 1, FILE:LINE\n  used     FILE:LINE\nFix: use the value that call 1 returned, or remove 0 from donate",
    );
    await assertRejects(() => state.w.data(), DonatedError, "Cannot read tensor f32[2]: its buffer was donated");
    assertThrows(() => step(state), DonatedError, "its buffer was donated");
  });

  test("donate refuses two names for one tensor, and a tensor that is captured too", () => {
    const twice = jit((a: Tensor, b: Tensor) => [add(a, b), sub(a, b)] as const, { donate: [0, 1], name: "twice" });
    const x = tensor([1, 2]);
    const error = assertThrows(() => twice(x, x), DonatedError);
    assertEquals(
      withoutLines(error),
      "Cannot donate argument 0 to twice: argument 0 and argument 1 are the same tensor\n  tensor  f32[2]\n  at      FILE:LINE\nFix: pass each donated tensor once, and do not use it anywhere else in the call",
    );
    const captures = jit((a: Tensor) => add(a, x), { donate: [0], name: "captures" });
    assertThrows(
      () => captures(x),
      DonatedError,
      "Cannot donate argument 0 to captures: the function also captures it",
    );
  });

  test("donate refuses what no result can take over", () => {
    const total = jit((x: Tensor) => sum(x), { donate: [0], name: "total" });
    const error = assertThrows(() => total(zeros([3])), DonatedError);
    assertEquals(
      withoutLines(error),
      "Cannot use the donation of argument 0 to total: no result is left of its size\n  tensor  f32[3], 12 bytes\n  at      FILE:LINE\nFix: donate only arguments that the function replaces by results of the same size",
    );
  });

  test("dispose() gives a tensor back, and reading it throws ReleasedError", async () => {
    const x = tensor([1, 2]);
    const y = add(x, 1);
    x.dispose();
    assertEquals([...await y.data()], [2, 3], "a lazy tensor keeps what it needs");
    await assertRejects(() => x.data(), ReleasedError, "Cannot use tensor f32[2]: it was disposed");
  });
}

oracleTest("jit() stops at the retrace limit and names what changed", () => {
  const f = jit(function growing(p: { x: Tensor }): Tensor {
    return sum(p.x);
  }, { maxTraces: 2 });
  f({ x: zeros([1]) });
  f({ x: zeros([2]) });
  const error = assertThrows(() => f({ x: zeros([3]) }), TraceError);
  assertEquals(error.code, "trace/retrace");
  assertEquals(
    withoutLines(error),
    "Cannot compile growing again: it was traced 2 times already\n  changed  [0].x went from f32[2] to f32[3]\n  at       FILE:LINE\nFix: pass what changes from call to call as a tensor of one shape, or raise maxTraces",
  );
  const counted = jit((x: Tensor, step: number) => mul(x, step), { maxTraces: 1, name: "counted" });
  counted(scalar(1), 1);
  assertThrows(
    () => counted(scalar(1), 2),
    TraceError,
    "a static value (number, string or boolean) among the arguments",
  );
});

oracleTest("jit() refuses to read a value inside the function", async () => {
  let read: Promise<HostData> | undefined;
  const f = jit(function peek(x: Tensor): Tensor {
    read = add(x, 1).data();
    // Handled below; without this the rejection would be reported before the test can look at it.
    read.catch(() => {});
    return x;
  });
  f(tensor([1, 2]));
  const error = await assertRejects(() => read!, TraceError);
  assertEquals(error.code, "trace/read");
  assertEquals(
    withoutLines(error),
    "Cannot read f32[2] inside jitted peek: the function is being traced, so it has no value yet\n  at  FILE:LINE\nFix: return the tensor and read it outside, or use where() for a choice that depends on data",
  );
});

oracleTest("tensors cannot be used as numbers", () => {
  const error = assertThrows(() => Number(scalar(1)), TraceError);
  assertEquals(error.message.split("\n")[0], "Cannot use f32[] as a number: its value is not on the host");
  assertEquals(`${scalar(1)}`, "Tensor f32[]");
});

oracleTest("jit() refuses tensors that escaped another trace", async () => {
  let leaked: Tensor | undefined;
  jit((x: Tensor) => {
    leaked = add(x, 1);
    return x;
  })(tensor([1, 2]));
  const error = await assertRejects(() => leaked!.data(), TraceError);
  assertEquals(error.code, "trace/escaped");
  assertEquals(
    error.message.split("\n")[0],
    "Cannot compute f32[2]: it depends on an argument of a function that was traced",
  );
});

oracleTest("jit() refuses an async function", () => {
  // deno-lint-ignore require-await -- the point of the test
  const error = assertThrows(() => jit(async (x: Tensor) => square(x))(scalar(1)), TraceError);
  assertEquals(
    withoutLines(error),
    "Cannot trace an async function in jit\n  at  FILE:LINE\nFix: make the function synchronous and await its result outside",
  );
});

oracleTest("a key may be consumed once in one trace, and again outside", () => {
  const twice = jit(function draw(key: Key): Tensor {
    return add(key.consume("uniform"), key.consume("normal"));
  });
  const key = new Key(tensor([0, 1], { dtype: "u32" }));
  const error = assertThrows(() => twice(key), KeyReuseError);
  assertEquals(error.code, "random/key-reuse");
  assertEquals(
    withoutLines(error),
    "Cannot use a key twice in jitted draw: both draws would be the same\n  first   uniform, FILE:LINE\n  second  normal, FILE:LINE\nFix: const [a, b] = split(key, 2), and give each consumer its own",
  );
  assertEquals(key.consume("uniform"), key.consume("uniform"));
});

oracleTest("jit() forgets a trace that failed", async () => {
  const isBroken = { now: true };
  const f = jit((x: Tensor) => {
    if (isBroken.now) throw new Error("broken");
    return add(x, 1);
  });
  assertThrows(() => f(scalar(1)), Error, "broken");
  isBroken.now = false;
  assertEquals(await f(scalar(1)).item(), 2);
});
