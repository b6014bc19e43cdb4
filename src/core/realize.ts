/**
 * Computing tensors: freezes what is behind them, has it compiled, and gives each its storage.
 *
 * @module
 */
import type { HostData } from "./dtype.ts";
import { takePendingChecks } from "./check.ts";
import { freeze, isRealized } from "./graph.ts";
import { currentRuntime, hasRuntime, type Runtime, type Storage } from "./runtime.ts";
import { expectOutsideTrace, expectUsable, setSource, sourceOf, type Tensor } from "./tensor.ts";
import { flatten, type MapLeaves } from "./tree.ts";

/** The graph target of a runtime: the oracle wants every composite expanded. */
export function targetOf(runtime: Runtime): Runtime["adapter"] | null {
  return "isOracle" in runtime ? null : runtime.adapter;
}

/** A realized tensor's storage; host data is uploaded on first use and stays uploaded. */
export function storageOf(tensor: Tensor, use: string): Storage {
  const source = expectUsable(tensor, use);
  if (source.kind === "device") return source.storage;
  if (source.kind !== "host") throw new Error("unreachable: storageOf wants a realized tensor");
  const runtime = currentRuntime(use);
  const storage = runtime.upload(tensor, source.data);
  runtime.adopt(tensor, storage);
  setSource(tensor, { kind: "device", storage });
  return storage;
}

/** Computes tensors together, so that what they share is computed once. Host tensors stay on the host; `use` is for errors. */
export function realize(tensors: readonly Tensor[], use = "realize"): void {
  const pending = [...new Set(tensors)].filter((tensor) => !isRealized(tensor));
  for (const tensor of pending) {
    expectUsable(tensor, use);
    expectOutsideTrace(tensor, use);
  }
  if (pending.length === 0) return;
  const runtime = currentRuntime("realize a tensor");
  const graph = freeze([], pending, targetOf(runtime));
  const executable = runtime.compile(graph, "eager");
  const storages = executable.run(graph.constants.map(({ tensor }) => storageOf(tensor, "compute with")), []);
  pending.forEach((tensor, i) => {
    const storage = storages[i]!;
    runtime.adopt(tensor, storage);
    setSource(tensor, { kind: "device", storage });
  });
}

/**
 * Computes every tensor of a tree now, together, without copying anything to the host.
 *
 * @returns The same tree.
 */
export function realizeTree<T>(tree: T): T {
  realize(flatten(tree).leaves);
  return tree;
}

/**
 * Reads every tensor of a tree with one round trip to the device.
 *
 * @returns The same structure with typed arrays for tensors.
 * @throws {TraceError} Inside a traced function.
 *
 * @example Two values, one read
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, mean, read, sum, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const x = tensor([1, 2, 3]);
 * const { total, average } = await read({ total: sum(x), average: mean(x) });
 * assertEquals([total[0], average[0]], [6, 2]);
 * ```
 */
export async function read<T>(tree: T): Promise<MapLeaves<T, HostData>> {
  const flat = flatten(tree);
  for (const leaf of flat.leaves) expectOutsideTrace(leaf, "read");
  realize(flat.leaves, "read");
  const onDevice = flat.leaves.flatMap((tensor) => {
    const source = sourceOf(tensor);
    return source.kind === "device" ? [{ storage: source.storage, tensor }] : [];
  });
  const checks = takePendingChecks(hasRuntime() ? currentRuntime("read a tree") : null);
  const copied = onDevice.length === 0 && checks.requests.length === 0
    ? []
    : await currentRuntime("read a tree").read([...onDevice, ...checks.requests]);
  checks.verify(copied.slice(onDevice.length));
  const data = new Map(onDevice.map(({ tensor }, i) => [tensor, copied[i]!]));
  const values = flat.leaves.map((leaf) => {
    const source = sourceOf(leaf);
    return data.get(leaf) ?? (source.kind === "host" ? source.data.slice() : expectUsable(leaf, "read"));
  });
  return flat.rebuild(values as unknown as Tensor[]) as MapLeaves<T, HostData>;
}

/**
 * Marks a tree as owned by a `using` block: `using kept = own(step(x))` releases all its tensors at the block's end.
 *
 * @returns An object with the tree and a disposer.
 */
export function own<T>(tree: T): { readonly tree: T } & Disposable {
  return {
    tree,
    [Symbol.dispose](): void {
      for (const leaf of flatten(tree).leaves) leaf.dispose();
    },
  };
}
