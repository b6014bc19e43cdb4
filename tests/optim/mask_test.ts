import { assertEquals } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import { leavesOf } from "../../src/core/tree.ts";
import { key } from "../../src/ops/random.ts";
import { tensor } from "../../src/ops/creation.ts";
import { adam, adamw, applyUpdates, chain, clipByGlobalNorm, freeze, masked, scale } from "../../src/optim/mod.ts";
import { distance, everywhere, makeParams, type Params } from "./problem.ts";
import { grad } from "../../src/core/grad.ts";

everywhere("masked() changes the chosen leaves and keeps no state for the others", async () => {
  const params = makeParams();
  const optimizer = masked(adam({ learningRate: 1 }), (path, leaf) => path.startsWith(".layers") && leaf.size > 1);
  const state = optimizer.init(params);
  assertEquals(leavesOf(state).map(([path]) => path), [
    "[0].count",
    "[0].mean.layers[0].experts",
    "[0].variance.layers[0].experts",
  ]);
  const [updates] = optimizer.update(params, state, params);
  const [found, given] = [await read(updates), await read(params)];
  assertEquals([...found.matrix], [...given.matrix]);
  assertEquals([...found.layers[0]!.bias], [...given.layers[0]!.bias]);
  assertEquals(found.layers[0]!.experts.every((update) => Math.abs(Math.abs(update) - 1) < 1e-3), true);
});

everywhere("masked() takes norms over the chosen leaves only", async () => {
  const params = { router: tensor([3, 4]), body: tensor([300, 400]) };
  const [updates] = masked(clipByGlobalNorm(1), (path) => path === ".router").update(params, null, params);
  const found = await read(updates);
  assertEquals([...found.router].map((x) => Math.round(x * 10)), [6, 8]);
  assertEquals([...found.body], [300, 400]);
});

everywhere("freeze() keeps leaves bit for bit, under decay too", async () => {
  const optimizer = freeze(
    chain(scale(1), adamw({ learningRate: 0.5, weightDecay: 0.1 })),
    (path) => path === ".gain" || path.endsWith(".bias"),
  );
  const step = jit((params: Params, state: readonly unknown[]) => {
    const [updates, next] = optimizer.update(grad(distance)(params, makeParams(1)), state, params);
    return [applyUpdates(params, updates), next as readonly unknown[]] as const;
  });
  const before = await read(makeParams());
  const [params] = step(makeParams(), optimizer.init(makeParams()) as readonly unknown[]);
  const after = await read(params);
  assertEquals([...after.gain, ...after.layers[0]!.bias], [...before.gain, ...before.layers[0]!.bias]);
  assertEquals(after.matrix.some((value, i) => value === before.matrix[i]), false);
});

everywhere("masks nest, and keys among the parameters are left alone", async () => {
  const params = [{ w: tensor(1), key: key(3) }, tensor(1)] as const;
  const optimizer = masked(masked(scale(10), (path) => path === "[0].w"), () => true);
  const [updates] = optimizer.update(params, optimizer.init(params), params);
  const next = applyUpdates(params, updates);
  assertEquals([await next[0].w.item(), await next[1].item()], [11, 2]);
  assertEquals(next[0].key.tensor, params[0].key.tensor);
});
