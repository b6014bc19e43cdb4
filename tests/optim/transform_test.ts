import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError, TreeError } from "../../src/core/errors.ts";
import { add } from "../../src/ops/binary.ts";
import { cast } from "../../src/ops/cast.ts";
import { tensor, zeros } from "../../src/ops/creation.ts";
import {
  adam,
  adamw,
  type AdamWOptions,
  applyUpdates,
  chain,
  type LeafPredicate,
  scale,
  scaleByAdam,
  scaleBySchedule,
  sgd,
} from "../../src/optim/mod.ts";
import { everywhere } from "./problem.ts";

everywhere("applyUpdates() adds in f32, rounds once and leaves integers alone", async () => {
  const params = { w: tensor([256, 1], { dtype: "bf16" }), visits: tensor([7], { dtype: "u32" }) };
  const next = applyUpdates(params, { w: tensor([1.5, 0.25]), visits: tensor([1], { dtype: "u32" }) });
  assertEquals([next.w.dtype, next.visits], ["bf16", params.visits]);
  assertEquals((await next.w.data())[1], 1.25);
});

everywhere("chain() passes updates on and keeps the states in order", async () => {
  const optimizer = chain(scale(2), scaleBySchedule((step) => add(cast(step, "f32"), 1)));
  const params = tensor([1, 2]);
  const [first, state] = optimizer.update(tensor([1, -1]), optimizer.init(params), params);
  const [second] = optimizer.update(tensor([1, -1]), state, params);
  assertEquals(state[0], null);
  assertEquals([...await first.data(), ...await second.data()], [2, -2, 4, -4]);
});

Deno.test("update() lists the gradients that do not match", () => {
  const optimizer = sgd({ learningRate: 1 });
  const params = { layers: [{ weight: zeros([2, 3]), bias: zeros([3]) }] };
  const grads = { layers: [{ weight: zeros([3, 2]) }] } as unknown as typeof params;
  const error = assertThrows(() => optimizer.update(grads, optimizer.init(params), params), TreeError);
  assertEquals(
    error.message,
    `Cannot update parameters: 2 leaves of grads do not match params
  params.layers[0].weight  f32[2, 3], grads has f32[3, 2]
  params.layers[0].bias    f32[3], grads has nothing
Fix: pass the grads made for these params`,
  );
});

Deno.test("applyUpdates() names the update that has no parameter", () => {
  const updates = { weight: zeros([2]), extra: zeros([1]) };
  const error = assertThrows(() => applyUpdates({ weight: zeros([2]) } as typeof updates, updates), TreeError);
  assertEquals(
    error.message,
    `Cannot update parameters: 1 leaf of updates does not match params
  updates.extra  f32[1], params has nothing
Fix: pass the updates made for these params`,
  );
});

Deno.test("update() refuses the state of other parameters", () => {
  const optimizer = scaleByAdam();
  const state = optimizer.init({ weight: zeros([2]) });
  const params = { weight: zeros([2]), bias: zeros([3]) };
  const error = assertThrows(() => optimizer.update(params, state, params), TreeError);
  assertEquals(
    error.message,
    `Cannot update parameters: the state of scaleByAdam has nothing for .bias
  params.bias  f32[3]
  state        .weight
Fix: pass the state that init(params) returned for these params`,
  );
});

Deno.test("chain() refuses the state of another chain", () => {
  const params = zeros([2]);
  const error = assertThrows(() => sgd({ learningRate: 1, momentum: 0.9 }).update(params, [null], params), TreeError);
  assertEquals(
    error.message.replace(/\S+:\d+:\d+/, "(line)"),
    `Cannot update parameters: the chain has 2 transforms, its state has 1
  at  (line)
Fix: pass the state that init(params) of this optimizer returned`,
  );
});

Deno.test("adamw() lists every invalid option", () => {
  const options = { learningRate: -1, beta1: 1, epsilon: 0, weightDecay: "0.1", mask: true, momentum: 0.9 };
  const error = assertThrows(() => adamw(options as unknown as AdamWOptions), ConfigError);
  assertEquals(
    error.message,
    `Cannot build adamw: 6 options are invalid
  learningRate  -1     must be a number from 0 up or a schedule
  beta1         1      must be a number from 0 up, below 1
  epsilon       0      must be a number above 0
  weightDecay   "0.1"  must be a number from 0 up
  mask          true   must be a function
  momentum      0.9    unknown option; the options are learningRate, beta1, beta2, epsilon, weightDecay, mask`,
  );
});

Deno.test("init() names moments by the path of their parameter, whatever the tree", () => {
  const names = (params: unknown) => Object.keys(scaleByAdam().init(params).mean);
  assertEquals(names({ layers: [{ w: zeros([1]) }], table: tensor([1], { dtype: "u32" }) }), ["layers[0].w"]);
  assertEquals(names([zeros([1]), { w: zeros([1]) }]), ["[0]", "[1].w"]);
  assertEquals(names(zeros([1])), [""]);
});

Deno.test("adamw() shows masks the paths that the rest of the library prints", () => {
  const seen: string[] = [];
  const mask: LeafPredicate = (path) => seen.push(path) > 0;
  const optimizer = adamw({ learningRate: 1, mask });
  for (const params of [{ a: { w: zeros([1]) } }, [zeros([1])], zeros([1])] as const) {
    optimizer.update(params, optimizer.init(params), params);
  }
  assertEquals(seen, [".a.w", "[0]", ""]);
});

everywhere("adam() corrects its first step exactly", async () => {
  // The correction of the second moment is 1 − 0.999: a difference of floats would be off by 5e-5.
  const optimizer = adam({ learningRate: 1 });
  const [update] = optimizer.update(tensor([3, -0.01]), optimizer.init(zeros([2])), zeros([2]));
  const found = await update.data();
  for (const [i, expected] of [-1, 1].entries()) {
    assertEquals(Math.abs(found[i]! - expected) < 4e-6, true, `${found[i]} for ${expected}`);
  }
});
