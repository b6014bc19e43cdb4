/**
 * External memory beside a dense layer: rows that tokens look up, and how the layer consumes them.
 *
 * Letters: D width, M rows, W width of a row, R rank, T tokens.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import type { OptionProblem } from "../core/errors.ts";
import type { Key } from "../core/key.ts";
import { sizeOf } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/binary.ts";
import { concat } from "../ops/concat.ts";
import { eye, zeros } from "../ops/creation.ts";
import { matmul } from "../ops/matmul.ts";
import { expectOptions, oneOf, type OptionShape, positiveCount } from "../ops/options.ts";
import { split } from "../ops/random.ts";
import { normal } from "../ops/samplers.ts";
import { reshape } from "../ops/view.ts";
import { execute, type ExpertParams } from "../routing/execute.ts";
import { type FoundRows, type MemoryLookup, planOfRows, valueRows } from "../routing/memory_lookup.ts";
import type { Tokens } from "../routing/plan_types.ts";
import { initExperts } from "./expert_params.ts";
import type { Activation } from "./feed_forward.ts";
import { fanIn } from "./initializers.ts";
import type { Layer, LayerContext } from "./layer.ts";
import type { LinearParams } from "./linear.ts";
import type { MoeInput, MoeOutput } from "./moe.ts";
import { layerPart, nonNegative, routerPart } from "./options.ts";

/**
 * How a layer consumes what a token finds. `"add"`: layer(x + row). `"concat"`: layer([x; row] · weight + bias).
 * `"experts"`: layer(x) + down(act(up(x))) with the small matrices of the row.
 */
export type MemoryUse = "add" | "concat" | "experts";

/** Options of {@linkcode memoryLayer}. */
export interface MemoryLayerOptions<R, Q> {
  /** Finds rows: `idLookup`, `lshLookup` or `softmaxLookup`; it says how many there are. */
  readonly lookup: MemoryLookup<R>;
  /** The dense layer that the memory helps, such as `feedForward`, of width D. */
  readonly layer: Layer<Q, Tensor, Tensor>;
  /** Size of the last axis of input and output, D. */
  readonly width: number;
  /** How rows are consumed, `"add"` by default. */
  readonly use?: MemoryUse;
  /** Width of a row where it is concatenated, W; by default `width`. Added rows have width D. */
  readonly rowWidth?: number;
  /** Standard deviation of initial rows, 0.02 by default; with 0 the memory starts without effect. Not for experts. */
  readonly deviation?: number;
  /** Inner width of an expert, R; 16 by default. Only for experts. */
  readonly rank?: number;
  /** Nonlinearity of the experts, `"relu"` by default. Only for experts. */
  readonly activation?: Activation;
}

/** Parameters of {@linkcode memoryLayer}. */
export interface MemoryLayerParams<R, Q> {
  /** The lookup's. */
  readonly lookup: R;
  /** The dense layer's. */
  readonly layer: Q;
  /** The rows where they are added, [M, D], or concatenated, [M, W]. */
  readonly rows?: Tensor;
  /** Joins hidden states and rows where these are concatenated: weight [D + W, D], bias [D]. */
  readonly join?: LinearParams;
  /** The rows where they are experts: up [M, D, R], down [M, R, D]. */
  readonly experts?: ExpertParams;
}

/** A dense layer with a memory, which transformer blocks take like `moe`. */
export interface MemoryLayer<R, Q> extends Layer<MemoryLayerParams<R, Q>, MoeInput, MoeOutput> {
  /** The lookup it was built with; its experts are the rows. */
  readonly router: MemoryLookup<R>;
}

const OPTIONS: OptionShape = {
  lookup: routerPart,
  layer: layerPart,
  width: positiveCount,
  use: oneOf("add", "concat", "experts").optional(),
  rowWidth: positiveCount.optional(),
  deviation: nonNegative.optional(),
  rank: positiveCount.optional(),
  activation: oneOf("relu", "gelu", "silu").optional(),
};

/** The options that only some uses have. */
const USED_BY: Readonly<Record<string, readonly MemoryUse[]>> = {
  rowWidth: ["concat"],
  deviation: ["add", "concat"],
  rank: ["experts"],
  activation: ["experts"],
};

/**
 * Gives a dense layer a memory: each token finds rows, and their weighted sum enters the layer's input or, as partial
 * experts of low rank, its output.
 *
 * Shapes: hidden [..., S, D] -> [..., S, D]. Rows start normal; where they are concatenated the joining weight starts as
 * the identity for the hidden states, and experts start with `down` at 0. A token without a row (padding, an unknown
 * id) gets what the layer makes of it alone, as if its row were 0.
 *
 * The output's plan is that of the lookup, over M rows, with its auxiliary losses and statistics; computing what nobody
 * reads of it costs nothing.
 *
 * @returns A layer whose output holds the hidden states and the plan.
 * @throws {ConfigError} If an option is invalid, all problems at once; by `apply`, if the lookup misses ids or a key.
 *
 * @example A row for each id, added to the input of a dense layer
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { feedForward, idLookup, key, memoryLayer, ones, tensor } from "@switchyard/switchyard";
 *
 * const layer = memoryLayer({ lookup: idLookup({ rows: 256 }), layer: feedForward({ width: 8 }), width: 8 });
 * const ids = tensor([[72, 105, 33]], { dtype: "u32" });
 * const { hidden, plan } = layer.apply(layer.init(key(0)), { hidden: ones([1, 3, 8]), ids });
 * assertEquals([hidden.shape, plan.experts], [[1, 3, 8], 256]);
 * ```
 *
 * Source: Baykal et al. 2023 (The power of external memory in increasing predictive model capacity).
 */
export function memoryLayer<R, Q>(options: MemoryLayerOptions<R, Q>): MemoryLayer<R, Q> {
  expectOptions("memoryLayer", OPTIONS, options, () => useProblems(options));
  const { lookup, layer, width, use = "add", deviation = 0.02, rank = 16, activation = "relu" } = options;
  const rowWidth = use === "concat" ? options.rowWidth ?? width : width;
  const rowCount = lookup.experts;

  function initRows(key: Key): Pick<MemoryLayerParams<R, Q>, "rows" | "join" | "experts"> {
    if (use === "experts") return { experts: initExperts(key, rowCount, { width, inner: rank, outputScale: 0 }) };
    const [rowKey, joinKey] = split(key);
    const rows = mul(normal(rowKey, [rowCount, rowWidth]), deviation);
    if (use === "add") return { rows };
    const ofRows = fanIn(joinKey, [rowWidth, width], { inputs: rowWidth });
    return { rows, join: { weight: concat([eye(width), ofRows]), bias: zeros([width]) } };
  }

  /** What the dense layer takes in: the hidden states [T, D] with their rows. */
  function withRows({ rows, join }: MemoryLayerParams<R, Q>, hidden: Tensor, found: FoundRows): Tensor {
    const recalled = castTo(valueRows(rows!, found), hidden.dtype); // [T, W]
    if (use === "add") return add(hidden, recalled);
    return add(matmul(concat([hidden, recalled], { axis: 1 }), join!.weight), join!.bias!);
  }

  return {
    name: `memory(${use}, ${lookup.name}, ${layer.name})`,
    router: lookup,
    init(key: Key): MemoryLayerParams<R, Q> {
      const [lookupKey, layerKey, rowKey] = split(key, 3);
      return { lookup: lookup.init(lookupKey), layer: layer.init(layerKey), ...initRows(rowKey) };
    },
    apply(params: MemoryLayerParams<R, Q>, x: MoeInput, context: LayerContext = {}): MoeOutput {
      const [lookupKey, layerKey] = context.key === undefined ? [] : split(context.key);
      const contextOf = (key: Key | undefined): LayerContext => key === undefined ? context : { ...context, key };
      const tokens = tokensOf(x);
      const found = lookup.find(params.lookup, tokens, contextOf(lookupKey));
      const plan = planOfRows(found, rowCount);
      const dense = (input: Tensor): Tensor =>
        layer.apply(params.layer, reshape(input, x.hidden.shape), contextOf(layerKey));
      if (use !== "experts") return { hidden: dense(withRows(params, tokens.hidden, found)), plan };
      const partial = execute(plan, tokens.hidden, params.experts!, { activation });
      return { hidden: add(dense(tokens.hidden), reshape(partial, x.hidden.shape)), plan };
    },
  };
}

/** Flattens what a lookup looks at. */
function tokensOf({ hidden, ids, mask }: MoeInput): Tokens {
  const count = sizeOf(hidden.shape.slice(0, -1));
  return {
    hidden: reshape(hidden, [count, hidden.shape.at(-1)!]),
    ...(ids === undefined ? {} : { ids: reshape(ids, [count]) }),
    ...(mask === undefined ? {} : { mask: reshape(mask, [count]) }),
  };
}

function useProblems<R, Q>(options: MemoryLayerOptions<R, Q>): readonly OptionProblem[] {
  const { lookup, use = "add" } = options;
  const given = options as unknown as Readonly<Record<string, unknown>>;
  const misplaced = Object.entries(USED_BY)
    .filter(([name, uses]) => given[name] !== undefined && !uses.includes(use))
    .map(([name]): OptionProblem => [name, given[name], `must be left out (use is ${use})`]);
  const isLookup = typeof lookup.find === "function";
  return isLookup
    ? misplaced
    : [["lookup", lookup.name, "must be made by idLookup, lshLookup or softmaxLookup"], ...misplaced];
}
