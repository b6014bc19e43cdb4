/**
 * Graph to groups: decides which values are stored and which kernel computes them. Pure; knows ops only by how they
 * lower.
 *
 * A value is *pulled* if its readers evaluate it where they need it (views, constants, cheap arithmetic, anything with
 * one reader), and *anchored* if a group computes it. A group is one dispatch (or one hand-written kernel with its
 * elementwise epilogue). Groups come in three shapes:
 * - map: one invocation for four elements; may hold reductions over leading axes, evaluated by a loop;
 * - row: one invocation for each row of `inner` elements; reductions over trailing axes, what follows from them, and
 *   elementwise work on the whole rows, so that a softmax or a normalization is one kernel;
 * - kernel: a hand-written kernel, plus elementwise consumers of its output.
 *
 * @module
 */
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { Lowering } from "../core/kernel.ts";
import { bytesPerElement } from "../core/dtype.ts";
import { type Shape, sizeOf } from "../core/shape.ts";
import { chooseAnchors, type FuseOptions } from "./anchors.ts";

export type { FuseOptions };

/** Work of one dispatch or hand-written kernel. */
export interface Group {
  /** Shape of the work, see the module's text. */
  readonly kind: "map" | "row" | "kernel";
  /** Invocation domain in elements (map, kernel: elements of the output; row: rows). */
  readonly rows: number;
  /** Elements of a row, 1 unless kind is row. */
  readonly inner: number;
  /** Nodes computed here, in order. For a kernel the first is the hand-written one. */
  readonly members: readonly GraphNode[];
  /** Values other groups or the caller read, which are stored. */
  readonly stored: readonly ValueId[];
  /** Buffered values it reads, and whether only at the very element it computes. */
  readonly reads: ReadonlyMap<ValueId, "same" | "other">;
}

/** What fusion decided. */
export interface Fusion {
  /** Groups in execution order. */
  readonly groups: readonly Group[];
  /** Node that makes each value. */
  readonly producer: ReadonlyMap<ValueId, GraphNode>;
  /** Values that live in buffers: inputs, constants and everything stored. */
  readonly buffered: ReadonlySet<ValueId>;
}

/** Rows from which a row kernel keeps the device busy with one invocation a row. */
const ENOUGH_ROWS = 32;

/** Loop iterations of one invocation; the software adapter silently stops at 65,535. */
const MAX_ITERATIONS = 65_000;

/** How the element a reader wants relates to the reader's own element. */
type Relation = { readonly at: "same" } | { readonly at: "row"; readonly inner: number } | { readonly at: "other" };
const SAME: Relation = { at: "same" };
const OTHER: Relation = { at: "other" };

interface Draft {
  kind: Group["kind"];
  rows: number;
  inner: number;
  members: GraphNode[];
  deps: Set<Draft>;
  merged: Draft | null;
}

/** Groups the nodes of a simplified graph. */
export function fuse(graph: Graph, options: FuseOptions): Fusion {
  const producer = new Map<ValueId, GraphNode>();
  for (const node of graph.nodes) for (const id of node.outputs) producer.set(id, node);
  const place = new Map(graph.nodes.map((node, i) => [node, i]));
  const anchored = chooseAnchors(graph, producer, options);
  const drafts = new Map<GraphNode, Draft>();
  const order: Draft[] = [];

  const find = (node: GraphNode): Draft => {
    let draft = drafts.get(node)!;
    while (draft.merged) draft = draft.merged;
    return draft;
  };
  const sizeOfValue = (id: ValueId) => sizeOf(graph.avals[id]!.shape);

  /** Anchored nodes a node reads through pulled values, with the relation of the element read to its own. */
  function readsOf(node: GraphNode): Map<ValueId, Relation[]> {
    const found = new Map<ValueId, Relation[]>();
    const stack: { id: ValueId; relation: Relation }[] = [];
    const isReduce = node.primitive.lower.as === "reduce";
    pushInputs(node, SAME, stack, isReduce);
    const seen = new Set<string>();
    while (stack.length > 0) {
      const { id, relation } = stack.pop()!;
      const key = `${id}:${relation.at}${relation.at === "row" ? relation.inner : ""}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const made = producer.get(id);
      if (made === undefined || anchored.has(made)) found.set(id, [...found.get(id) ?? [], relation]);
      else pushInputs(made, relation, stack, false);
    }
    return found;
  }
  function pushInputs(
    node: GraphNode,
    relation: Relation,
    stack: { id: ValueId; relation: Relation }[],
    asReduce: boolean,
  ): void {
    const { lower } = node.primitive;
    for (const id of node.inputs) {
      if (lower.as === "expr" || asReduce) stack.push({ id, relation });
      else if (lower.as === "view" && lower.linear) stack.push({ id, relation });
      else if (lower.as === "view" && node.primitive.name === "expand") {
        const inner = rowBroadcast(graph.avals[id]!.shape, graph.avals[node.outputs[0]!]!.shape);
        stack.push({ id, relation: inner !== null && relation.at === "same" ? { at: "row", inner } : OTHER });
      } else stack.push({ id, relation: OTHER });
    }
  }

  /** Whether `from` needs `target`'s results. */
  function dependsOn(from: Draft, target: Draft): boolean {
    const seen = new Set<Draft>();
    const stack = [from];
    while (stack.length > 0) {
      let at = stack.pop()!;
      while (at.merged) at = at.merged;
      if (at === target) return true;
      if (seen.has(at)) continue;
      seen.add(at);
      stack.push(...at.deps);
    }
    return false;
  }

  /** The shape a draft would have with a node in it, or null if it does not fit. */
  function shapeWith(
    draft: Draft,
    node: GraphNode,
    reads: Map<ValueId, Relation[]>,
  ): Pick<Draft, "kind" | "rows" | "inner"> | null {
    const { lower } = node.primitive;
    if (lower.as === "kernel" || options.fusion === "none") return null;
    const own = [...reads].filter(([id]) => producer.has(id) && find(producer.get(id)!) === draft);
    const size = sizeOfValue(node.outputs[0]!);
    if (lower.as === "reduce") {
      const inner = trailingLength(node);
      if (inner === null || inner === 1 || size < ENOUGH_ROWS) return null;
      const asRow = { kind: "row", rows: size, inner } as const;
      if (draft.kind === "row" && (draft.rows !== size || draft.inner !== inner)) return null;
      if (draft.kind === "map" && (draft.rows !== size * inner || draft.members.some(isReduce))) return null;
      if (draft.kind === "kernel") return null;
      return own.every(([id, relations]) => relations.every((r) => fitsRow(sizeOfValue(id), r, asRow, true))) &&
          packs(draft, asRow, node)
        ? asRow
        : null;
    }
    if (draft.kind === "row") {
      const full = size === draft.rows * draft.inner;
      if (!full && size !== draft.rows) return null;
      return own.every(([id, relations]) => relations.every((r) => fitsRow(sizeOfValue(id), r, draft, full))) &&
          packs(draft, draft, node)
        ? draft
        : null;
    }
    if (draft.kind === "kernel") {
      const head = draft.members[0]!.primitive.lower;
      if (head.as !== "kernel" || !head.epilogue) return null;
    }
    return size === draft.rows && own.every(([, relations]) => relations.every((r) => r.at === "same")) &&
        packs(draft, draft, node)
      ? draft
      : null;
  }

  /** bf16 is stored four elements at a time, which a row kernel of odd rows and a kernel's epilogue cannot do. */
  function packs(draft: Draft, shape: Pick<Draft, "kind" | "rows" | "inner">, node: GraphNode): boolean {
    return [...draft.members, node].every((member) =>
      member.outputs.every((id) => {
        if (graph.avals[id]!.dtype !== "bf16") return true;
        if (shape.kind === "map") return !draft.members.some(isReduce) && !isReduce(node);
        return shape.kind === "row" && sizeOfValue(id) === shape.rows * shape.inner && shape.inner % 4 === 0 &&
          shape.inner > 1;
      })
    );
  }

  function buffersOf(members: readonly GraphNode[]): number {
    const made = new Set(members.flatMap((node) => node.outputs));
    const outside = new Set<ValueId>();
    for (const node of members) for (const [id] of readsOf(node)) if (!made.has(id)) outside.add(id);
    // A buffer read both as scalars and as vec4 is bound twice.
    return outside.size * 2 + made.size;
  }

  for (const node of graph.nodes) {
    if (!anchored.has(node)) continue;
    const reads = readsOf(node);
    const sources = new Set<Draft>();
    for (const id of reads.keys()) if (producer.has(id)) sources.add(find(producer.get(id)!));
    let home: Draft | null = null;
    for (const draft of sources) {
      const shape = shapeWith(draft, node, reads);
      if (shape === null) continue;
      if ([...sources].some((other) => other !== draft && dependsOn(other, draft))) continue;
      const members = [...draft.members, node];
      if (buffersOf(members) > options.maxBuffers || !endsInTime(shape, members)) continue;
      Object.assign(draft, shape);
      draft.members.push(node);
      for (const other of sources) if (other !== draft) draft.deps.add(other);
      home = draft;
      break;
    }
    if (home === null) {
      home = startDraft(node, sources);
      order.push(home);
    }
    drafts.set(node, home);
    if (home.kind !== "kernel") mergeSiblings(home, sources);
  }

  function startDraft(node: GraphNode, sources: ReadonlySet<Draft>): Draft {
    const { lower } = node.primitive;
    const size = sizeOfValue(node.outputs[0]!);
    const inner = lower.as === "reduce" ? trailingLength(node) : null;
    // bf16 is stored four elements at a time, so four rows of it share an invocation of a map kernel.
    const isRow = inner !== null && inner > 1 && graph.avals[node.outputs[0]!]!.dtype !== "bf16";
    return {
      kind: lower.as === "kernel" ? "kernel" : isRow ? "row" : "map",
      rows: size,
      inner: isRow ? inner : 1,
      members: [node],
      deps: new Set(sources),
      merged: null,
    };
  }

  /** Joins other groups of the same domain that this node reads, so that for example all updates of one parameter are one kernel. */
  function mergeSiblings(home: Draft, sources: ReadonlySet<Draft>): void {
    if (options.fusion === "none") return;
    for (const other of sources) {
      if (other === home || other.merged || other.kind !== home.kind) continue;
      if (other.rows !== home.rows || other.inner !== home.inner) continue;
      if (!home.members.every((member) => readsInStep(member, home, other))) continue;
      home.deps.delete(other);
      const cyclic = dependsOn(other, home) || [...home.deps].some((dep) => dependsOn(dep, other));
      const members = [...other.members, ...home.members].sort((a, b) => place.get(a)! - place.get(b)!);
      const isTooMuch = buffersOf(members) > options.maxBuffers || !endsInTime(home, members);
      if (cyclic || isTooMuch || !packsAll(home, members)) {
        home.deps.add(other);
        continue;
      }
      for (const dep of other.deps) home.deps.add(dep);
      home.members = members;
      other.merged = home;
    }
  }
  /** Whether a member of `home` reads of `other` only what is at hand when both are one kernel. */
  function readsInStep(member: GraphNode, home: Draft, other: Draft): boolean {
    const isFull = isReduce(member) || sizeOfValue(member.outputs[0]!) === home.rows * home.inner;
    return [...readsOf(member)].every(([id, relations]) =>
      !producer.has(id) || find(producer.get(id)!) !== other ||
      relations.every((r) => home.kind === "row" ? fitsRow(sizeOfValue(id), r, home, isFull) : r.at === "same")
    );
  }
  /** Whether the loops of a kernel with these members, run one after another, are short enough for one invocation. */
  function endsInTime(shape: Pick<Draft, "kind" | "inner">, members: readonly GraphNode[]): boolean {
    const reduces = members.filter(isReduce);
    if (shape.kind === "row") {
      return (reduces.length + 1) * shape.inner / (shape.inner % 4 === 0 ? 4 : 1) <= MAX_ITERATIONS;
    }
    return reduces.reduce((total, node) => total + iterationsOf(node), 0) <= MAX_ITERATIONS;
  }
  function iterationsOf(node: GraphNode): number {
    const length = Math.ceil(sizeOfValue(node.inputs[0]!) / Math.max(1, sizeOfValue(node.outputs[0]!)));
    // Four results of bf16 share an invocation.
    return graph.avals[node.outputs[0]!]!.dtype === "bf16" ? 4 * length : length;
  }
  function packsAll(home: Draft, members: readonly GraphNode[]): boolean {
    return members.every((member) => packs({ ...home, members: [...members] }, home, member));
  }

  const live = order.filter((draft) => draft.merged === null);
  const groupOf = new Map<GraphNode, Draft>();
  for (const draft of live) for (const member of draft.members) groupOf.set(member, draft);
  const buffered = new Set<ValueId>([...graph.inputs, ...graph.constants.map(({ value }) => value)]);
  const stored = new Set<ValueId>(graph.outputs.filter((id) => producer.has(id)));
  for (const draft of live) {
    for (const member of draft.members) {
      for (const [id, relations] of readsOf(member)) {
        const made = producer.get(id);
        if (made && (groupOf.get(made) !== draft || relations.some((r) => r.at === "other"))) stored.add(id);
      }
      if (draft.kind === "kernel" && member === draft.members[0] && member.outputs.length > 1) {
        for (const id of member.outputs) stored.add(id);
      }
    }
  }
  for (const id of stored) buffered.add(id);
  const groups = sortDrafts(live, place).map((draft): Group => ({
    kind: draft.kind,
    rows: draft.rows,
    inner: draft.inner,
    members: draft.members,
    stored: draft.members.flatMap((member) => member.outputs.filter((id) => stored.has(id))),
    reads: outsideReads(draft),
  }));
  return { groups, producer, buffered };

  function outsideReads(draft: Draft): Map<ValueId, "same" | "other"> {
    const found = new Map<ValueId, "same" | "other">();
    for (const member of draft.members) {
      const sameElement = draft.kind === "map" && !isReduce(member);
      for (const [id, relations] of readsOf(member)) {
        if (groupOf.get(producer.get(id)!) === draft) continue;
        const same = sameElement && relations.every((r) => r.at === "same") && found.get(id) !== "other";
        found.set(id, same ? "same" : "other");
      }
    }
    return found;
  }

  function isReduce(node: GraphNode): boolean {
    return node.primitive.lower.as === "reduce";
  }

  /** Elements a trailing reduction folds, or null if it is not over the last axes. */
  function trailingLength(node: GraphNode): number | null {
    const lower = node.primitive.lower as Extract<Lowering<unknown>, { as: "reduce" }>;
    if (lower.parts?.(node.attrs)) return null;
    const axes = lower.axes(node.attrs);
    const shape = graph.avals[node.inputs[0]!]!.shape;
    // Axes of size 1 behind the reduced ones change nothing.
    const significant = shape.map((n, axis) => ({ n, axis })).filter(({ n, axis }) => n !== 1 || axes.includes(axis));
    const reduced = significant.filter(({ axis }) => axes.includes(axis));
    const tail = significant.slice(significant.length - reduced.length);
    return tail.every(({ axis }) => axes.includes(axis)) ? reduced.reduce((product, { n }) => product * n, 1) : null;
  }
}

/** Whether a value read at a relation is at hand inside a row kernel, for a reader that runs over whole rows or once a row. */
function fitsRow(
  size: number,
  relation: Relation,
  shape: Pick<Draft, "rows" | "inner">,
  readerIsFull: boolean,
): boolean {
  const isFull = size === shape.rows * shape.inner;
  if (!readerIsFull) return relation.at === "same" && size === shape.rows && (!isFull || shape.inner === 1);
  if (relation.at === "same") return isFull;
  return relation.at === "row" && relation.inner === shape.inner && size === shape.rows;
}

/** If expanding repeats each element of a row along the trailing axes only: how often. */
function rowBroadcast(from: Shape, to: Shape): number | null {
  let split = to.length;
  while (split > 0 && (from[split - 1] === 1)) split--;
  for (let axis = 0; axis < split; axis++) if (from[axis] !== to[axis]) return null;
  return sizeOf(to.slice(split));
}

/** Groups in dependency order, otherwise in order of creation, so that the backward pass frees what it is done with. */
function sortDrafts(drafts: readonly Draft[], place: ReadonlyMap<GraphNode, number>): Draft[] {
  const done = new Set<Draft>();
  const sorted: Draft[] = [];
  const resolve = (draft: Draft): Draft => {
    let at = draft;
    while (at.merged) at = at.merged;
    return at;
  };
  for (const root of drafts.toSorted((a, b) => place.get(a.members[0]!)! - place.get(b.members[0]!)!)) {
    const stack = [{ draft: root, entered: false }];
    while (stack.length > 0) {
      const frame = stack.at(-1)!;
      if (done.has(frame.draft)) {
        stack.pop();
        continue;
      }
      if (frame.entered) {
        done.add(frame.draft);
        sorted.push(frame.draft);
        stack.pop();
        continue;
      }
      frame.entered = true;
      for (const dep of frame.draft.deps) {
        const real = resolve(dep);
        if (real !== frame.draft && !done.has(real)) stack.push({ draft: real, entered: false });
      }
    }
  }
  return sorted;
}

/** Bytes of a value in a buffer, padded to whole vec4s so that kernels may store four elements at a time. */
export function bytesOf(graph: Graph, id: ValueId): number {
  const { shape, dtype } = graph.avals[id]!;
  return Math.max(16, Math.ceil(sizeOf(shape) * bytesPerElement(dtype) / 16) * 16);
}
