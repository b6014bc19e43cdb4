/**
 * Graph to groups: decides which values are stored and which kernel computes them. Pure; knows ops only by how they
 * lower.
 *
 * A value is *pulled* if its readers evaluate it where they need it (views, constants, cheap arithmetic, anything with
 * one reader), and *anchored* if a group computes it. A group is one dispatch (or one hand-written kernel with its
 * elementwise epilogue). Groups come in three shapes:
 * - map: one invocation for four elements; may hold reductions over leading axes, evaluated by a loop;
 * - row: rows of `inner` elements, each the work of one invocation or of several; reductions over trailing axes, what
 *   follows from them, and elementwise work on the whole rows, so that a softmax or a normalization is one kernel;
 * - kernel: a hand-written kernel, plus elementwise consumers of its output.
 *
 * @module
 */
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import { sizeOf } from "../core/shape.ts";
import { bytesInBuffer, windowsOf } from "../core/windows.ts";
import { chooseAnchors, type FuseOptions, takesStep } from "./anchors.ts";
import { dependsOn, type Draft, sortDrafts } from "./drafts.ts";
import { mergeNeighbors } from "./neighbors.ts";
import { isReduce, iterationsOf, Reads, trailingLength } from "./reads.ts";
import { fitsRow, OTHER, type Relation, SAME } from "./relations.ts";

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

/** Rows that are long enough for several invocations of a hardware adapter, however few there are. */
const LONG_ROW = 64;

/** Groups the nodes of a simplified graph. */
export function fuse(graph: Graph, options: FuseOptions): Fusion {
  const producer = new Map<ValueId, GraphNode>();
  for (const node of graph.nodes) for (const id of node.outputs) producer.set(id, node);
  const place = new Map(graph.nodes.map((node, i) => [node, i]));
  const anchored = chooseAnchors(graph, producer, options);
  const readers = new Reads(graph, producer, anchored);
  const readsOf = (node: GraphNode) => readers.of(node);
  const { consumers } = readers;
  const drafts = new Map<GraphNode, Draft>();
  const order: Draft[] = [];

  const find = (node: GraphNode): Draft => {
    let draft = drafts.get(node)!;
    while (draft.merged) draft = draft.merged;
    return draft;
  };
  const sizeOfValue = (id: ValueId) => sizeOf(graph.avals[id]!.shape);

  /** The shape a draft would have with a node in it, or null if it does not fit. */
  function shapeWith(
    draft: Draft,
    node: GraphNode,
    reads: ReadonlyMap<ValueId, readonly Relation[]>,
  ): Pick<Draft, "kind" | "rows" | "inner"> | null {
    const { lower } = node.primitive;
    if (lower.as === "kernel" || options.fusion === "none") return null;
    const own = [...reads].filter(([id]) => producer.has(id) && find(producer.get(id)!) === draft);
    const size = sizeOfValue(node.outputs[0]!);
    if (lower.as === "reduce") {
      const inner = takesStep("rows", options.fusion) ? trailingLength(graph, node) : null;
      if (inner === null || inner === 1 || !makesRows(size, inner)) return null;
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
      if (!takesStep("rows", options.fusion)) return null;
      const full = size === draft.rows * draft.inner;
      if (!full && size !== draft.rows) return null;
      return own.every(([id, relations]) => relations.every((r) => fitsRow(sizeOfValue(id), r, draft, full))) &&
          packs(draft, draft, node)
        ? draft
        : null;
    }
    if (draft.kind === "kernel") {
      const head = draft.members[0]!.primitive.lower;
      if (head.as !== "kernel" || !head.epilogue || !takesStep("epilogues", options.fusion)) return null;
      if (options.adapter?.software !== false && isOneOfManyUpdates(node, draft)) return null;
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

  const outputs = new Set(graph.outputs);
  const isDonated = (id: ValueId) => options.donated?.[graph.inputs.indexOf(id)] === true && !outputs.has(id);

  /**
   * Whether a node is one of several that each set a kernel's result against another whole value, as an optimizer's
   * moments do. A software adapter moves such values faster in a kernel of their own: there they are walked in order, and
   * replaced in place.
   */
  function isOneOfManyUpdates(node: GraphNode, { members: [head], rows }: Draft): boolean {
    const readers = head!.outputs.flatMap((id) => [...consumers.get(id) ?? []]);
    const updates = readers.filter((reader) =>
      [...readsOf(reader).keys()].some((id) => !head!.outputs.includes(id) && sizeOfValue(id) === rows)
    );
    return updates.length > 1 && updates.includes(node);
  }

  /** Storage buffers a kernel of these members binds. */
  function buffersOf(shape: Pick<Draft, "kind">, members: readonly GraphNode[]): number {
    const own = new Set(members);
    const made = new Set(members.flatMap((node) => node.outputs));
    const isLeaving = (id: ValueId) => outputs.has(id) || [...consumers.get(id) ?? []].some((node) => !own.has(node));
    const stored = [...made].filter((id) => isLeaving(id) || shape.kind === "kernel");
    const outside = new Map<ValueId, Relation[]>();
    for (const node of members) {
      // The loop of a reduction inside a map kernel reads as wide as it can, whatever others do.
      const isLoop = shape.kind !== "row" && isReduce(node);
      for (const [id, relations] of readsOf(node)) {
        if (!made.has(id)) outside.set(id, [...outside.get(id) ?? [], ...isLoop ? [OTHER] : relations]);
      }
    }
    const isPacked = stored.some((id) => graph.avals[id]!.dtype === "bf16");
    // A map kernel runs once for each stretch of what it reads in step, and binds only that; see parts.ts.
    const bindingsOf = (id: ValueId, inStep: boolean) =>
      inStep && shape.kind === "map" ? 1 : windowsOf(bytesOf(graph, id), options.adapter ?? {});
    let count = stored.reduce((total, id) => total + bindingsOf(id, true), 0);
    for (const [id, relations] of outside) {
      const isOneWidth = shape.kind !== "kernel" && !isPacked && (sizeOfValue(id) === 1 ||
        relations.every((r) => r === SAME || (shape.kind === "row" && r.at === "row")));
      // A buffer read both as scalars and as vec4 is bound twice.
      count += (isOneWidth ? 1 : 2) * bindingsOf(id, relations.every((r) => r.at === "same"));
    }
    return count - (shape.kind === "map" ? inPlace(stored, outside, own) : 0);
  }

  /** Results of a map kernel that take over the buffer of a donated argument it reads, which is then bound once. */
  function inPlace(
    stored: readonly ValueId[],
    outside: ReadonlyMap<ValueId, readonly Relation[]>,
    own: ReadonlySet<GraphNode>,
  ): number {
    const free = [...outside].filter(([id, relations]) =>
      isDonated(id) && relations.every((r) => r === SAME) && [...consumers.get(id)!].every((node) => own.has(node))
    ).map(([id]) => id);
    const before = free.length;
    for (const id of stored.filter((id) => outputs.has(id))) {
      const place = free.findIndex((other) =>
        graph.avals[other]!.dtype === graph.avals[id]!.dtype && bytesOf(graph, other) === bytesOf(graph, id)
      );
      if (place >= 0) free.splice(place, 1);
    }
    return before - free.length;
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
      if (buffersOf(shape, members) > options.maxBuffers || !endsInTime(shape, members)) continue;
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

  /** Whether a row kernel keeps the device busy with rows like these. */
  function makesRows(rows: number, inner: number): boolean {
    return rows >= ENOUGH_ROWS || (options.adapter?.software === false && inner >= LONG_ROW);
  }

  function startDraft(node: GraphNode, sources: ReadonlySet<Draft>): Draft {
    const { lower } = node.primitive;
    const size = sizeOfValue(node.outputs[0]!);
    const inner = lower.as === "reduce" ? trailingLength(graph, node) : null;
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
    if (!takesStep("siblings", options.fusion)) return;
    for (const other of sources) {
      if (other === home || other.merged || other.kind !== home.kind) continue;
      if (other.rows !== home.rows || other.inner !== home.inner) continue;
      if (!home.members.every((member) => readsInStep(member, home, other))) continue;
      home.deps.delete(other);
      const cyclic = dependsOn(other, home) || [...home.deps].some((dep) => dependsOn(dep, other));
      const members = [...other.members, ...home.members].sort((a, b) => place.get(a)! - place.get(b)!);
      const isTooMuch = buffersOf(home, members) > options.maxBuffers || !endsInTime(home, members);
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
    return reduces.reduce((total, node) => total + iterationsOf(graph, node), 0) <= MAX_ITERATIONS;
  }
  function packsAll(home: Draft, members: readonly GraphNode[]): boolean {
    return members.every((member) => packs({ ...home, members: [...members] }, home, member));
  }

  if (takesStep("neighbors", options.fusion)) {
    mergeNeighbors(
      graph,
      order,
      place,
      (home, members) => buffersOf(home, members) <= options.maxBuffers && packsAll(home, members),
    );
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
}

/** Bytes of a value in a buffer. */
export function bytesOf(graph: Graph, id: ValueId): number {
  return bytesInBuffer(graph.avals[id]!);
}
