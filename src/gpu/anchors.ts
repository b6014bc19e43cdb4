/**
 * Which values of a graph are stored and which are evaluated where they are read: the first half of fusion.
 *
 * @module
 */
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { AdapterTraits, Lowering } from "../core/kernel.ts";
import { sizeOf } from "../core/shape.ts";

/**
 * One of the things fusion does, which tests switch off one at a time: `rows` joins reductions with what surrounds them,
 * `epilogues` appends to hand-written kernels and `prologues` prepends, `siblings` joins groups that read each other,
 * `neighbors` small ones that do not, `recompute` evaluates cheap arithmetic at each of its readers, and `bundles` makes
 * one dispatch of several small ones that differ in length.
 */
export type FusionStep = typeof FUSION_STEPS[number];

/** All of them. */
export const FUSION_STEPS = [
  "rows",
  "epilogues",
  "prologues",
  "siblings",
  "neighbors",
  "recompute",
  "bundles",
] as const;

/** What is fused: `"none"` stores every value. */
export type FusionChoice = "all" | "none" | { readonly without: readonly FusionStep[] };

/** Whether fusion may take a step. */
export function takesStep(step: FusionStep, choice: FusionChoice | undefined): boolean {
  return choice === undefined || choice === "all" || (choice !== "none" && !choice.without.includes(step));
}

/** What fusion has to respect. */
export interface FuseOptions {
  /** Storage buffers one kernel may bind. */
  readonly maxBuffers: number;
  /** For tests that compare. */
  readonly fusion?: FusionChoice;
  /** Arguments whose buffers results may take over: one read and written at the same element is bound once. */
  readonly donated?: readonly boolean[];
  /** The adapter, as far as fusion differs: a software one by default. */
  readonly adapter?: Pick<AdapterTraits, "software" | "bindingBytes">;
}

/** Cost up to which recomputing a value beats storing and loading it, in additions. */
const CHEAP = 4;
/** Cost a matmul pays to evaluate an operand at each of its many reads; more is stored first. */
const MAX_PROLOGUE_COST = 1;

/**
 * Decides which nodes are computed by a group, of their own or shared, rather than evaluated by each reader: reductions,
 * hand-written kernels, results of the graph, and arithmetic that is too dear to repeat where it is read.
 */
export function chooseAnchors(
  graph: Graph,
  producer: ReadonlyMap<ValueId, GraphNode>,
  options: FuseOptions,
): Set<GraphNode> {
  const anchored = new Set<GraphNode>();
  const outputs = new Set(graph.outputs);
  const readers = new Map<ValueId, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const id of node.inputs) readers.set(id, [...readers.get(id) ?? [], node]);
  }
  for (const node of graph.nodes) {
    const { lower } = node.primitive;
    const isForItsType = lower.as === "expr" && lower.stored === true && !isLeftToReaders(node);
    const isWanted = node.outputs.some((id) => outputs.has(id)) || isForItsType;
    if (lower.as === "reduce" || lower.as === "kernel" || isWanted || options.fusion === "none") anchored.add(node);
  }
  const costs = new Map<ValueId, number>();
  const leaves = new Map<ValueId, ReadonlySet<ValueId>>();
  const pulled = (id: ValueId) => producer.has(id) && !anchored.has(producer.get(id)!);
  const measureOne = (node: GraphNode) => {
    const { lower } = node.primitive;
    const own = lower.as === "expr" ? lower.cost ?? 1 : 0;
    costs.set(node.outputs[0]!, node.inputs.reduce((total, id) => total + (pulled(id) ? costs.get(id)! : 1), own));
    leaves.set(node.outputs[0]!, new Set(node.inputs.flatMap((id) => pulled(id) ? [...leaves.get(id)!] : [id])));
  };
  const measure = () => {
    for (const node of graph.nodes) if (!anchored.has(node)) measureOne(node);
  };
  measure();

  /** Readers that evaluate a value on their own, looking through pulled values. */
  const uses = new Map<GraphNode, number>();
  const dear = new Set<GraphNode>();
  const cheap = takesStep("recompute", options.fusion) ? CHEAP : 0;
  for (const node of graph.nodes.toReversed()) {
    if (anchored.has(node)) continue;
    const id = node.outputs[0]!;
    let count = 0;
    let repeated = false;
    for (const reader of readers.get(id) ?? []) {
      count += anchored.has(reader) ? 1 : uses.get(reader) ?? 0;
      const { lower } = reader.primitive;
      if (lower.as === "view" && !lower.linear) {
        repeated ||= sizeOf(graph.avals[reader.outputs[0]!]!.shape) > sizeOf(graph.avals[id]!.shape) ||
          reader.inputs.length > 1;
      }
    }
    uses.set(node, count);
    const cost = costs.get(id)!;
    const isArithmetic = node.primitive.lower.as === "expr";
    if (isArithmetic && cost > cheap && (count > 1 || repeated)) {
      anchored.add(node);
      dear.add(node);
    }
  }
  // Anchoring made what lies behind cheaper: from the front on, give back what is now cheap to recompute.
  for (const node of graph.nodes) {
    if (anchored.has(node) && !dear.has(node)) continue;
    measureOne(node);
    if (dear.has(node) && costs.get(node.outputs[0]!)! <= cheap) anchored.delete(node);
  }
  for (const node of graph.nodes) {
    if (node.primitive.lower.as !== "kernel") continue;
    node.inputs.forEach((id, i) => {
      const made = producer.get(id);
      if (made === undefined || anchored.has(made)) return;
      const { prologue } = node.primitive.lower as Extract<Lowering<unknown>, { as: "kernel" }>;
      const arithmetic = (costs.get(id) ?? 0) - (leaves.get(id)?.size ?? 0);
      const fuses = takesStep("prologues", options.fusion) && prologue?.includes(i) &&
        arithmetic <= MAX_PROLOGUE_COST && isContiguous(made);
      if (!fuses && !isRenaming(made)) anchored.add(made);
    });
  }
  // A pulled expression must not bind more buffers than a kernel has.
  measure();
  for (const node of graph.nodes) {
    const all = new Set(node.inputs.flatMap((id) => [...leaves.get(id) ?? [id]]));
    if (all.size * 2 + 2 <= options.maxBuffers) continue;
    for (const id of node.inputs) {
      const made = producer.get(id);
      if (made && !anchored.has(made) && (leaves.get(id)?.size ?? 0) > 1) anchored.add(made);
    }
    measure();
  }
  return anchored;

  /** Whether all who read what is otherwise stored for its type's sake rather compute it in their loads. */
  function isLeftToReaders(node: GraphNode): boolean {
    const [id] = node.outputs;
    const found = readers.get(id!) ?? [];
    return takesStep("prologues", options.fusion) && found.length > 0 && found.every(({ inputs, primitive }) => {
      const { lower } = primitive;
      return lower.as === "kernel" && inputs.every((input, i) => input !== id || lower.unstored?.includes(i));
    });
  }

  /** Reshapes alone change no element: a kernel binds the buffer behind them. */
  function isRenaming(node: GraphNode): boolean {
    if (node.primitive.lower.as !== "view" || !node.primitive.lower.linear) return false;
    const source = producer.get(node.inputs[0]!);
    return source === undefined || anchored.has(source) || isRenaming(source);
  }

  /** A prologue must keep vec4 loads: bf16 and f16 casts, reshapes. Anything scattered is copied once instead. */
  function isContiguous(node: GraphNode): boolean {
    const { lower } = node.primitive;
    if (lower.as === "expr") {
      return node.inputs.every((id) =>
        !producer.has(id) || anchored.has(producer.get(id)!) || isContiguous(producer.get(id)!)
      );
    }
    return lower.as === "view" && lower.linear === true &&
      node.inputs.every((id) =>
        !producer.has(id) || anchored.has(producer.get(id)!) || isContiguous(producer.get(id)!)
      );
  }
}
