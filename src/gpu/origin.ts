/**
 * Where a dispatch comes from: the ops it computes, the user's lines they were written on, and what it moves and computes.
 *
 * @module
 */
import type { Graph, GraphNode } from "../core/graph.ts";
import { sizeOf } from "../core/shape.ts";
import { bytesOf, type Group } from "./fuse.ts";
import type { Dispatch } from "./dispatch.ts";

/** What is known of a dispatch without running it. */
export interface Origin {
  /** Names of the ops it computes. */
  readonly ops: readonly string[];
  /** The user's lines that made them, as `file.ts:line:column`; empty unless sites were recorded. */
  readonly sites: readonly string[];
  /** Bytes of the values it binds, each counted once: what it moves if it reads all of each. */
  readonly bytes: number;
  /** Floating point operations of the matrix products in it, or null if it holds none. */
  readonly flop: number | null;
}

/** The origin of one dispatch of a group. */
export function originOf(graph: Graph, group: Group, { bindings }: Pick<Dispatch, "bindings">): Origin {
  // A buffer may be bound twice, in two widths, and each time in windows.
  const distinct = new Map(bindings.map((binding) => [`${binding.buffer}|${binding.window?.offset}`, binding]));
  let bytes = 0;
  for (const { buffer, window } of distinct.values()) {
    const id = /^%(\d+)$/.exec(buffer)?.[1];
    if (id !== undefined) bytes += window?.size ?? bytesOf(graph, Number(id));
  }
  const flops = group.members.map((node) => flopOf(graph, node)).filter((flop) => flop !== null);
  return {
    ops: group.members.map(({ primitive }) => primitive.name),
    sites: [...new Set(group.members.flatMap(({ site }) => site ?? []))],
    bytes,
    flop: flops.length === 0 ? null : flops.reduce((sum, flop) => sum + flop),
  };
}

/** A multiplication and an addition for each element of the result and each step of the sum. */
function flopOf({ avals }: Graph, { primitive, attrs, inputs, outputs }: GraphNode): number | null {
  if (primitive.name !== "matmul") return null;
  const { shape } = avals[inputs[0]!]!;
  return 2 * sizeOf(avals[outputs[0]!]!.shape) * shape.at(attrs.transA ? -2 : -1)!;
}
