/**
 * Tensors that are larger than one binding may be: whatever a kernel does with them, it gives the same bits as where they
 * can be bound whole (where other ops share kernels, up to rounding), and no binding shows more than the limit.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigError, OutOfMemoryError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import { installRuntime } from "../../src/core/runtime.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { flatten } from "../../src/core/tree.ts";
import { vjp } from "../../src/core/vjp.ts";
import { init } from "../../src/gpu/device.ts";
import { feedForward } from "../../src/layers/feed_forward.ts";
import { languageModelLoss } from "../../src/layers/language_model_loss.ts";
import { moe } from "../../src/layers/moe.ts";
import { transformerLm } from "../../src/layers/transformer_lm.ts";
import { causalAttention } from "../../src/ops/attention.ts";
import {
  add,
  arange,
  bits,
  cast,
  concat,
  key,
  matmul,
  mul,
  normal,
  ones,
  remainder,
  reshape,
  slice,
  softmax,
  sum,
  take,
  transpose,
} from "../../src/ops/mod.ts";
import { adam, chain, clipByGlobalNorm, globalNorm, trainState, trainStep } from "../../src/optim/mod.ts";
import { execute } from "../../src/routing/execute.ts";
import { valueRows } from "../../src/routing/memory_lookup.ts";
import { planFromTopK } from "../../src/routing/plan.ts";
import { executeSegments } from "../../src/routing/segment.ts";
import { topKRouter } from "../../src/routing/top_k_router.ts";
import { gpuTest } from "../support/runtimes.ts";
import { assertClose, EXACT, type Tolerance } from "../support/tolerance.ts";
import { compile, f32, SOFTWARE } from "./support/compile.ts";
import { type FuzzRuntimeOptions, startRuntime } from "./support/fuzz_runtimes.ts";
import { dedent } from "./support/messages.ts";

/** Small enough for tensors of tests to be several times as large. */
const BINDING_BYTES = 2048;

/** What a run gave, and the largest stretch of a buffer and most buffers that one of its kernels bound. */
interface Run {
  readonly values: readonly ArrayLike<number>[];
  readonly mostBytes: number;
  readonly mostBuffers: number;
}

/** Runs on a device of its own, and looks at every bind group. */
async function runWith(
  bindingBytes: number,
  run: () => Promise<readonly ArrayLike<number>[]>,
  { buffers = 32, adapterClass = "software" }: Pick<FuzzRuntimeOptions, "buffers" | "adapterClass"> = {},
): Promise<Run> {
  const runtime = await startRuntime({ buffers, bindingBytes, adapterClass });
  const { device } = runtime;
  const create = device.createBindGroup.bind(device);
  let mostBytes = 0;
  let mostBuffers = 0;
  device.createBindGroup = (descriptor) => {
    const bound = [...descriptor.entries].flatMap(({ resource }) => "buffer" in resource ? [resource] : []);
    const sizes = bound.map(({ buffer, offset = 0, size = buffer.size - offset }) => size);
    mostBytes = Math.max(mostBytes, ...sizes);
    mostBuffers = Math.max(mostBuffers, sizes.length);
    return create(descriptor);
  };
  const previous = installRuntime(runtime);
  try {
    return { values: await run(), mostBytes, mostBuffers };
  } finally {
    installRuntime(previous);
  }
}

/** Options of {@linkcode expectSameInWindows}. */
interface WindowOptions extends NonNullable<Parameters<typeof runWith>[2]> {
  /** How far results may be apart, not at all by default. */
  readonly tolerance?: Tolerance;
}

/** Runs with whole bindings and in windows, and expects the same bits unless a tolerance allows for less. */
async function expectSameInWindows(
  run: () => Promise<readonly ArrayLike<number>[]>,
  { tolerance = EXACT, ...options }: WindowOptions = {},
): Promise<void> {
  const whole = await runWith(2 ** 27, run, options);
  const windowed = await runWith(BINDING_BYTES, run, options);
  assert(whole.mostBytes > 2 * BINDING_BYTES, `nothing was larger than ${whole.mostBytes} bytes`);
  assert(windowed.mostBytes <= BINDING_BYTES, `a kernel bound ${windowed.mostBytes} bytes`);
  windowed.values.forEach((values, i) => assertClose(values, whole.values[i]!, tolerance, `value ${i}`));
}

const VOCABULARY = 200;
const WIDTH = 16;

async function trainLanguageModel(steps: number): Promise<readonly ArrayLike<number>[]> {
  const model = transformerLm({
    vocabulary: VOCABULARY,
    width: WIDTH,
    layers: 2,
    heads: 2,
    deviation: 0.3,
    body: (layer) =>
      layer === 0
        ? feedForward({ width: WIDTH, inner: 48, bias: true })
        : moe({ router: topKRouter({ width: WIDTH, experts: 5, k: 2 }), width: WIDTH, inner: 24 }),
  });
  const optimizer = chain(clipByGlobalNorm(1), adam({ learningRate: 0.01 }));
  const step = trainStep({
    loss: (params: ReturnType<typeof model.init>, ids: Tensor) =>
      languageModelLoss(model.apply(params, { ids }, { train: true }), ids, { coefficients: { balance: 0.01 } }).loss,
    optimizer,
    measure: ({ grads }) => ({ norm: globalNorm(grads) }),
  });
  let state = trainState({ params: model.init(key(1)), optimizer, key: key(2) });
  const seen: ArrayLike<number>[] = [];
  for (let i = 0; i < steps; i++) {
    const ids = reshape(cast(mul(arange(24, { dtype: "u32" }), 7 + i), "u32"), [2, 12]);
    assertStringIncludes(step.program(state, ids), "experts gradient");
    const [next, { loss, norm }] = step(state, ids);
    state = next;
    seen.push(await loss.data(), await norm.data());
  }
  return [...seen, ...await read(flatten(state).leaves)];
}

gpuTest(
  "a language model with embeddings, experts and Adam's moments over the binding limit trains to the same bits",
  () => expectSameInWindows(() => trainLanguageModel(3)),
);

// Which small ops share a kernel depends on how many bindings they need, and within a kernel a driver may round a product and
// the sum behind it once.
for (const adapterClass of ["hardware", "software with textures"] as const) {
  gpuTest(
    `the same up to rounding with kernels as for ${adapterClass}`,
    () =>
      expectSameInWindows(() => trainLanguageModel(1), {
        adapterClass,
        tolerance: { relative: 1e-5, absolute: 1e-5 },
      }),
  );
}

for (const dtype of ["f32", "f16", "bf16"] as const) {
  gpuTest(`ops on tensors of ${dtype} over the binding limit`, () =>
    expectSameInWindows(async () => {
      const x = cast(normal(key(0), [70, 36]), dtype);
      const y = cast(normal(key(1), [70, 36]), dtype);
      const found = jit((x: Tensor, y: Tensor, ids: Tensor) => ({
        chain: add(mul(x, y), 0.5),
        odd: mul(slice(add(x, y), [{ start: 3 }, { start: 1 }]), 2),
        rows: softmax(x),
        columns: sum(x, { axis: 0 }),
        total: sum(mul(x, x)),
        product: matmul(x, transpose(y)),
        taken: take(x, ids, { axis: 0 }),
        joined: concat([x, y], { axis: 1 }),
        transposed: add(transpose(x), 1),
      }))(x, y, mul(arange(11, { dtype: "u32" }), 6));
      return (await read(flatten(found).leaves)).map((values) => values as Float32Array);
    }));
}

/** Forward and backward of a function for a cotangent of ones. */
function pulled(f: (...args: Tensor[]) => Tensor, ...args: readonly Tensor[]): readonly Tensor[] {
  const [out, pull] = vjp(f, ...args);
  return [out, ...pull(ones(out.shape))];
}

for (const adapterClass of ["software", "hardware"] as const) {
  gpuTest(
    `experts, segments, values, embeddings and attention over the binding limit with kernels as for ${adapterClass}`,
    () =>
      expectSameInWindows(async () => {
        const draw = (seed: number, ...shape: number[]) => normal(key(seed), shape);
        const plan = planFromTopK({
          experts: 5,
          indices: remainder(bits(key(9), [10, 2]), 6),
          weights: draw(8, 10, 2),
        });
        const found = jit((x: Tensor, up: Tensor, down: Tensor, table: Tensor, ids: Tensor) => [
          ...pulled((x, up, down) => execute(plan, x!, { up: up!, down: down! }), x, up, down),
          ...pulled((x, up) => executeSegments(plan, x!, { weight: up! }), x, up),
          ...pulled((table) => take(table!, ids, { axis: 0 }), table),
          ...pulled(
            (table, weights) => valueRows(table!, { rows: reshape(ids, [30, 10]), weights: weights! }),
            table,
            draw(6, 30, 10),
          ),
          ...pulled((x) => causalAttention(x!, x!, x!), draw(7, 2, 70, 8)),
        ])(
          draw(1, 10, 16),
          draw(2, 5, 16, 24),
          draw(3, 5, 24, 16),
          draw(4, 240, 8),
          remainder(bits(key(5), [300]), 240),
        );
        return await read(flatten(found).leaves);
      }, { adapterClass }),
  );
}

gpuTest("eight buffers are enough for an update of a tensor of many windows", () =>
  expectSameInWindows(async () => {
    const [p, m, v, g] = [0, 1, 2, 3].map((seed) => mul(normal(key(seed), [9001]), 0.5));
    const update = jit((p: Tensor, m: Tensor, v: Tensor, g: Tensor) => {
      const nextM = add(mul(m, 0.9), mul(g, 0.1));
      const nextV = add(mul(v, 0.99), mul(mul(g, g), 0.01));
      return [add(p, mul(nextM, nextV)), nextM, nextV, mul(add(arange(9001, { dtype: "f32" }), 1), p)];
    }, { donate: [0, 1, 2] });
    return await read([...update(p!, m!, v!, g!)]);
  }, { buffers: 8 }));

gpuTest("a kernel that cannot have all windows it needs is refused by name", async () => {
  const runtime = await startRuntime({ buffers: 8, bindingBytes: BINDING_BYTES });
  const previous = installRuntime(runtime);
  try {
    const x = bits(key(0), [100, 100]);
    const error = await assertRejects(() => take(x, arange(3, { dtype: "u32" }), { axis: 0 }).data(), OutOfMemoryError);
    assertEquals(error.code, "limits/binding");
    assertEquals(
      error.message,
      dedent(`
      Cannot bind u32[100, 100] in eager: 0.038 MiB in bindings of at most 0.002 MiB, and takeRows may have 8 for all it reads and writes
        needed  21 bindings, 20 of them for this tensor
      Fix: use a smaller batch, split the tensor, store f16 or bf16, or init() on an adapter with a higher limit`),
    );
  } finally {
    installRuntime(previous);
  }
});

Deno.test("elementwise work on a large tensor is one dispatch for each part, and parts share a text", () => {
  const adapter = { ...SOFTWARE, bindingBytes: BINDING_BYTES };
  const { dispatches } = compile((x: Tensor) => mul(x, 2), [f32(1300)], { adapter });
  assertEquals(dispatches.map(({ label, bindings }) => [label, ...bindings.flatMap(({ window }) => window ?? [])]), [
    ["mul 1/3", { offset: 0, size: 2048 }, { offset: 0, size: 2048 }],
    ["mul 2/3", { offset: 2048, size: 2048 }, { offset: 2048, size: 2048 }],
    ["mul 3/3", { offset: 4096, size: 1104 }, { offset: 4096, size: 1104 }],
  ]);
  assertEquals(new Set(dispatches.map(({ wgsl }) => wgsl)).size, 1);
});

Deno.test("a large tensor that a kernel reads anywhere is bound in windows, and the program says so", () => {
  const adapter = { ...SOFTWARE, bindingBytes: BINDING_BYTES };
  const program = compile((x: Tensor) => sum(x, { axis: 0 }), [f32(40, 32)], { adapter });
  assertStringIncludes(String(program), "(%0 f32[40, 32] in 3 windows)");
});

gpuTest("init({ bindingLimitBytes }) lowers what a binding shows, and never raises it", async () => {
  const previous = installRuntime(null);
  try {
    const { limits } = await init({ bindingLimitBytes: 4096 });
    assertEquals(await sum(add(arange(10_000, { dtype: "u32" }), 1)).item(), 50_005_000);
    const most = limits.maxStorageBufferBindingSize!;
    const error = await assertRejects(() => init({ bindingLimitBytes: most + 1 }), ConfigError);
    assertEquals(error.message.includes(`must be at most ${most}`), true, error.message);
    await assertRejects(
      () => init({ bindingLimitBytes: 100 }),
      ConfigError,
      "must be a whole number of bytes from 4096",
    );
  } finally {
    installRuntime(previous);
  }
});
