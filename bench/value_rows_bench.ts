/**
 * What does reading a memory cost: the body `valueRow` against the same sums in small ops?
 *
 * The rows a token reads are given, as a product-key search or a table of ids would choose them.
 *
 * @module
 */
import {
  type DeviceInfo,
  type HostData,
  jit,
  key,
  mul,
  normal,
  read,
  realize,
  softmax,
  sum,
  take,
  type Tensor,
  tensor,
  uniform,
  unsqueeze,
  valueAndGrad,
  valueRows,
} from "../mod.ts";
import { randomSource } from "../tests/support/random.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Contender, Question } from "./harness.ts";
import { expectClose } from "./verify.ts";

/** Letters: T tokens, K rows of a token, M rows of the memory, W width of a row. */
interface Memory {
  readonly tokens: number;
  readonly reads: number;
  readonly count: number;
  readonly width: number;
  /** How reads fall on rows: all alike, or half of them on one row in a hundred. */
  readonly load?: "uniform" | "skewed";
}

/** What is differentiated. */
interface Operands {
  /** f32[M, W]. */
  readonly values: Tensor;
  /** f32[T, K]. */
  readonly weights: Tensor;
}

function drawRows({ tokens, reads, count, load = "uniform" }: Memory): Tensor {
  const random = randomSource(1);
  const popular = Math.ceil(count / 100);
  const draw = () => random.integer(0, load === "skewed" && random.uniform() < 0.5 ? popular : count);
  return tensor(Uint32Array.from({ length: tokens * reads }, draw), { shape: [tokens, reads] });
}

/** The sums and their gradients, read by read. */
function hostValueRows(
  { reads, width }: Memory,
  { values, weights, rows, cotangent }: Readonly<Record<"values" | "weights" | "rows" | "cotangent", HostData>>,
): { readonly out: Float64Array; readonly values: Float64Array; readonly weights: Float64Array } {
  const found = {
    out: new Float64Array(cotangent.length),
    values: new Float64Array(values.length),
    weights: new Float64Array(weights.length),
  };
  for (let i = 0; i < rows.length; i++) {
    const [token, row] = [Math.floor(i / reads) * width, rows[i]! * width];
    for (let c = 0; c < width; c++) {
      found.out[token + c]! += weights[i]! * values[row + c]!;
      found.weights[i]! += cotangent[token + c]! * values[row + c]!;
      found.values[row + c]! += weights[i]! * cotangent[token + c]!;
    }
  }
  return found;
}

/** The body in small ops. */
function composed({ values, weights }: Operands, rows: Tensor): Tensor {
  return sum(mul(take(values, rows), unsqueeze(weights, 2)), { axis: 1 });
}

/** Both passes of one way to read. */
function compile(name: string, apply: (given: Operands, rows: Tensor) => Tensor) {
  return {
    name,
    forward: jit(apply, { name }),
    both: jit(
      (given: Operands, rows: Tensor, cotangent: Tensor) =>
        valueAndGrad((own: Operands) => sum(mul(apply(own, rows), cotangent)))(given),
      { name: `${name} with gradient` },
    ),
  };
}

function build(memory: Memory): Built {
  const { tokens, reads, count, width } = memory;
  const given = {
    values: normal(key(1), [count, width]),
    weights: softmax(normal(key(2), [tokens, reads])),
  };
  const [rows, cotangent] = [drawRows(memory), uniform(key(3), [tokens, width], { min: -1, max: 1 })];
  const inputs = realize({ given, rows, cotangent });
  const small = compile("small ops", composed);
  const fused = compile("valueRows", ({ values, weights }, rows) => valueRows(values, { rows, weights }));
  const flop = 2 * tokens * reads * width;
  // A row that several tokens read counts each time: caches are the adapter's business.
  const bytes = 4 * (tokens * reads * (width + 2) + tokens * width);
  const contenders = [small, fused].flatMap(({ name, forward, both }): Contender[] => [
    {
      name: `${name} forward`,
      work: { flop, bytes },
      run: () => forward(given, rows),
      ...(name === small.name ? {} : { ratioTo: `${small.name} forward` }),
    },
    {
      name: `${name} forward+backward`,
      work: { flop: 3 * flop, bytes: 3 * bytes + 4 * count * width },
      run: () => both(given, rows, cotangent),
      ...(name === small.name ? {} : { ratioTo: `${small.name} forward+backward` }),
    },
  ]);
  return {
    contenders,
    inputs,
    async verify() {
      const numbers = await read({ ...given, rows, cotangent });
      const expected = hostValueRows(memory, numbers);
      for (const { name, forward, both } of [small, fused]) {
        const { out, grads } = await read({ out: forward(given, rows), grads: both(given, rows, cotangent).grads });
        expectClose(name, out, expected.out, reads);
        expectClose(`${name}, gradient of values`, grads.values, expected.values, reads * tokens / count + 1);
        expectClose(`${name}, gradient of weights`, grads.weights, expected.weights, width);
      }
    },
  };
}

const PRODUCT_KEYS: Memory = { tokens: 2048, reads: 128, count: 16_384, width: 128 };
const BY_ID: Memory = { tokens: 2048, reads: 1, count: 16_384, width: 128 };

/** The question for `deno task bench`. */
export const valueRowsQuestion: Question = {
  name: "valueRows",
  asks: "What does reading a memory cost: weighted sums of its rows, against the same in small ops?",
  workloads: ({ software }: DeviceInfo) =>
    [
      PRODUCT_KEYS,
      { ...PRODUCT_KEYS, load: "skewed" as const },
      BY_ID,
      ...(software ? [] : [{ tokens: 16_384, reads: 128, count: 262_144, width: 512 }]),
    ].map((memory: Memory) => {
      const { tokens, reads, count, width, load = "uniform" } = memory;
      return {
        name: `T${tokens} K${reads} M${count} W${width} ${load}`,
        shapes: `values f32[${count},${width}], rows u32[${tokens},${reads}]`,
        build: () => build(memory),
      };
    }),
};

await registerBenches(valueRowsQuestion, import.meta);
