import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { grad } from "../../src/core/grad.ts";
import { read } from "../../src/core/realize.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { causalSelfAttention } from "../../src/layers/causal_self_attention.ts";
import { linear } from "../../src/layers/linear.ts";
import { memoryLayer } from "../../src/layers/memory.ts";
import { transformerBlock } from "../../src/layers/transformer_block.ts";
import { relu } from "../../src/ops/activations.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { tensor } from "../../src/ops/creation.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { key } from "../../src/ops/random.ts";
import { sum } from "../../src/ops/reduce.ts";
import { slice } from "../../src/ops/slice.ts";
import { square } from "../../src/ops/unary.ts";
import { concat } from "../../src/ops/concat.ts";
import { idLookup } from "../../src/routing/id_lookup.ts";
import { lshLookup } from "../../src/routing/lsh_lookup.ts";
import { hashRouter } from "../../src/routing/hash_router.ts";
import { softmaxLookup } from "../../src/routing/softmax_lookup.ts";
import { checkLayer } from "../support/check_layer.ts";
import { oracleTest } from "../support/runtimes.ts";
import { assertClose } from "../support/tolerance.ts";
import { normalTensor } from "../support/draw.ts";

const TOLERANCE = { relative: 1e-5, absolute: 1e-5 };
const IDS = [3, 0, 1, 3, 2, 1];
const [ids, mask] = [tensor(IDS, { dtype: "u32" }), tensor([true, true, true, true, false, true])];
const layer = linear({ inputs: 3, outputs: 3 });

checkLayer({
  layer: memoryLayer({ lookup: idLookup({ rows: 4 }), layer, width: 3 }),
  name: "memory(add, idLookup(4), linear(3 -> 3))",
  params: { ".layer.weight": "f32[3, 3]", ".layer.bias": "f32[3]", ".rows": "f32[4, 3]" },
  inputs: [{ shape: [2, 3, 3] }],
  input: (hidden) => ({ hidden: hidden!, ids: tensor(IDS, { shape: [2, 3], dtype: "u32" }) }),
  output: ({ hidden }) => [hidden],
  tolerance: TOLERANCE,
});

checkLayer({
  layer: memoryLayer({
    lookup: softmaxLookup({ width: 3, rows: 4, k: 2, gateStd: 1 }),
    layer,
    width: 3,
    use: "concat",
    rowWidth: 2,
  }),
  name: "memory(concat, softmaxLookup(2/4), linear(3 -> 3))",
  params: {
    ".lookup.gate": "f32[3, 4]",
    ".layer.weight": "f32[3, 3]",
    ".layer.bias": "f32[3]",
    ".rows": "f32[4, 2]",
    ".join.weight": "f32[5, 3]",
    ".join.bias": "f32[3]",
  },
  inputs: [{ shape: [5, 3] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden, plan }) => [hidden, plan.aux.balance!],
  tolerance: TOLERANCE,
});

checkLayer({
  layer: memoryLayer({
    lookup: softmaxLookup({ width: 3, rows: 4, k: 2, gateStd: 1 }),
    layer,
    width: 3,
    use: "experts",
    rank: 2,
    activation: "gelu",
  }),
  name: "memory(experts, softmaxLookup(2/4), linear(3 -> 3))",
  params: {
    ".lookup.gate": "f32[3, 4]",
    ".layer.weight": "f32[3, 3]",
    ".layer.bias": "f32[3]",
    ".experts.up": "f32[4, 3, 2]",
    ".experts.down": "f32[4, 2, 3]",
  },
  inputs: [{ shape: [5, 3] }],
  input: (hidden) => ({ hidden: hidden! }),
  output: ({ hidden }) => [hidden],
  tolerance: TOLERANCE,
});

oracleTest("memoryLayer() consumes rows as its formulas say, token by token", async () => {
  const [hidden, lookup] = [normalTensor([6, 3], 1), idLookup({ rows: 4 })];
  for (const use of ["add", "concat", "experts"] as const) {
    const memory = memoryLayer({ lookup, layer, width: 3, use });
    const initial = memory.init(key(1));
    const params = use === "experts"
      ? { ...initial, experts: { up: normalTensor([4, 3, 16], 2), down: normalTensor([4, 16, 3], 3) } }
      : {
        ...initial,
        rows: normalTensor([4, 3], 2),
        ...(initial.join && { join: { ...initial.join, weight: normalTensor([6, 3], 3) } }),
      };
    const expected = IDS.map((id, token) => {
      const x = slice(hidden, [{ start: token, stop: token + 1 }]);
      if (token === 4 && use === "experts") return layer.apply(params.layer, x);
      if (use === "experts") {
        const { up, down } = params.experts!;
        return add(layer.apply(params.layer, x), matmul(relu(matmul(x, slice(up, [id]))), slice(down, [id])));
      }
      const row = mul(slice(params.rows!, [{ start: id, stop: id + 1 }]), token === 4 ? 0 : 1);
      if (use === "add") return layer.apply(params.layer, add(x, row));
      const joined = add(matmul(concat([x, row], { axis: 1 }), params.join!.weight), params.join!.bias!);
      return layer.apply(params.layer, joined);
    });
    const { actual, wanted } = await read({
      actual: memory.apply(params, { hidden, ids, mask }).hidden,
      wanted: concat(expected),
    });
    assertClose(actual, wanted, { relative: 1e-6, absolute: 1e-6 }, use);
  }
});

oracleTest("memoryLayer() starts as the layer alone where its rows start at 0 or are experts", async () => {
  const hidden = normalTensor([6, 3], 1);
  const options = { lookup: idLookup({ rows: 4 }), layer, width: 3 };
  for (
    const memory of [
      memoryLayer({ ...options, deviation: 0 }),
      memoryLayer({ ...options, deviation: 0, use: "concat" }),
      memoryLayer({ ...options, use: "experts" }),
    ]
  ) {
    const params = memory.init(key(2));
    const alone = await layer.apply(params.layer, hidden).data();
    assertClose(
      await memory.apply(params, { hidden, ids }).hidden.data(),
      alone,
      { relative: 1e-12, absolute: 1e-12 },
      memory.name,
    );
  }
});

oracleTest(
  "memoryLayer() gives a gradient of zeros to rows that nobody reads, and none to the lookup by hashing",
  async () => {
    const memory = memoryLayer({ lookup: lshLookup({ width: 3, rows: 8 }), layer, width: 3 });
    const params = memory.init(key(1));
    const hidden = normalTensor([3, 3], 4);
    const gradients = grad((p: typeof params) => sum(square(memory.apply(p, { hidden }).hidden)))(params);
    const { rows, directions, found } = await read({
      rows: gradients.rows!,
      directions: gradients.lookup.directions,
      found: memory.router.find(params.lookup, { hidden }).rows,
    });
    assert(directions.every((value) => value === 0));
    const touched = Array.from(
      { length: 8 },
      (_, row) => rows.slice(row * 3, row * 3 + 3).some((value) => value !== 0),
    );
    assertEquals(
      touched,
      Array.from({ length: 8 }, (_, row) => found.includes(row)),
    );
  },
);

oracleTest("memoryLayer() is a body of transformer blocks and draws while training", async () => {
  const lookup = softmaxLookup({ width: 4, rows: 5, jitter: 0.3 });
  const block = transformerBlock({
    width: 4,
    attention: causalSelfAttention({ width: 4, heads: 2 }),
    body: memoryLayer({ lookup, layer: feedForward({ width: 4 }), width: 4 }),
  });
  const { hidden, plan } = block.apply(block.init(key(0)), { hidden: normalTensor([2, 3, 4], 5) }, {
    train: true,
    key: key(1),
  });
  assertEquals([hidden.shape, plan!.experts, plan!.assignments], [[2, 3, 4], 5, 6]);
  assert((await hidden.data()).every(Number.isFinite));
});

Deno.test("memoryLayer() refuses bad options, all at once", () => {
  const messageOf = (build: () => unknown) => assertThrows(build, ConfigError).message;
  const lookup = idLookup({ rows: 4 });
  assertEquals(
    messageOf(() => memoryLayer({ lookup, layer, width: 3, rowWidth: 2, rank: 4, activation: "relu" })),
    `Cannot build memoryLayer: 3 options are invalid
  rowWidth    2       must be left out (use is add)
  rank        4       must be left out (use is add)
  activation  "relu"  must be left out (use is add)`,
  );
  assertEquals(
    messageOf(() =>
      memoryLayer({
        lookup: hashRouter({ experts: 2, vocabulary: 4 }) as never,
        layer,
        width: 3,
        use: "experts",
        deviation: 1,
      })
    ),
    `Cannot build memoryLayer: 2 options are invalid
  lookup     "hash(random, 2)"  must be made by idLookup, lshLookup or softmaxLookup
  deviation  1                  must be left out (use is experts)`,
  );
  assertEquals(
    messageOf(() => memoryLayer({ lookup, layer, width: 0, use: "adding" as "add" })),
    `Cannot build memoryLayer: 2 options are invalid
  width  0         must be a whole number from 1 up
  use    "adding"  must be one of add, concat, experts`,
  );
});
