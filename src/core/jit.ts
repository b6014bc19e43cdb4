/**
 * Compiling a function once for each structure and shape of its arguments.
 *
 * @module
 */
import { addPendingCheck, buildFiniteCheck, type FiniteCheck } from "./check.ts";
import { bytesPerElement } from "./dtype.ts";
import { callSite, DonatedError, notice, rememberCallSite, TraceError } from "./errors.ts";
import { freeze, type Graph } from "./graph.ts";
import { realize, storageOf, targetOf } from "./realize.ts";
import { currentRuntime, type Executable, type MemoryPlan, type Runtime } from "./runtime.ts";
import { formatAval } from "./shape.ts";
import {
  currentTrace,
  fromStorage,
  placeholder,
  recordsSites,
  setSiteRecording,
  setSource,
  type Tensor,
  tracing,
} from "./tensor.ts";
import { expectNoPromise } from "./trace.ts";
import { flatten, type FlatTree } from "./tree.ts";

/** Options of {@linkcode jit}. */
export interface JitOptions {
  /** Arguments whose buffers the results may take over; they cannot be used after the call. */
  readonly donate?: readonly number[];
  /** Name in errors and profiles; the function's own name by default. */
  readonly name?: string;
  /** Compilations allowed before it is taken for a mistake, 8 by default. */
  readonly maxTraces?: number;
  /** `"finite"` finds the first op that makes a NaN or infinity and reports it at the next read. Slow. */
  readonly check?: "finite";
}

/** A compiled function. */
export interface Jitted<A extends readonly unknown[], R> {
  /** Runs the function. */
  (...args: A): R;
  /** Compiles for these arguments without running, and prints the program. */
  program(...args: A): string;
  /** Compiles for these arguments without running, and tells what memory a call needs. */
  memory(...args: A): MemoryPlan;
  /** How many times the function was traced. */
  readonly traces: number;
}

interface Compiled {
  readonly graph: Graph;
  readonly executable: Executable;
  readonly outputs: FlatTree;
  readonly resultCount: number;
  readonly check: FiniteCheck | null;
  readonly runtime: Runtime;
}

const CAPTURE_NOTICE_BYTES = 1 << 20;

/**
 * Compiles a function of trees to a few kernels, once for each structure, shape and static value of its arguments.
 *
 * Tensors are traced; numbers, strings, booleans and null in the arguments are static and compile anew when they
 * change, so pass what changes from step to step as a tensor. Called inside another transform, it is inlined.
 *
 * @param f A pure, synchronous function. Tensors it captures become constants of the program.
 * @returns A function of the same type that only submits work: nothing is read back.
 * @throws {OutOfMemoryError} When called, before anything runs, if the call needs more than `init({ budgetBytes })`; see
 * `memory(...args)`.
 * @throws {DonatedError} If an argument was donated before, is donated twice, or its donation cannot be used.
 * @throws {TraceError} If `f` reads a value, is asynchronous, or was traced more than `maxTraces` times.
 *
 * @example A step that replaces its state
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init, jit, mul, type Tensor, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const halve = jit((state: { w: Tensor }) => ({ w: mul(state.w, 0.5) }), { donate: [0] });
 * const next = halve({ w: tensor([2, 4]) });
 * assertEquals([...await next.w.data()], [1, 2]);
 * ```
 */
export function jit<A extends readonly unknown[], R>(f: (...args: A) => R, options: JitOptions = {}): Jitted<A, R> {
  const { donate = [], maxTraces = 8, check } = options;
  const name = options.name ?? (f.name === "" ? "function" : f.name);
  const cache = new Map<string, Compiled>();
  let lastTypes: ReadonlyMap<string, string> | null = null;
  let traces = 0;
  let calls = 0;

  function compile(flat: FlatTree, key: string): Compiled {
    const runtime = currentRuntime(`run jitted ${name}`);
    const known = cache.get(key);
    if (known !== undefined && known.runtime === runtime) return known;
    // What a profile traces to learn the lines of ops is no mistake of the user's.
    if (!recordsSites() && ++traces > maxTraces) throw tooManyTraces(name, maxTraces, lastTypes, typesOf(flat));
    lastTypes = typesOf(flat);
    const recording = setSiteRecording(check !== undefined || recordsSites());
    try {
      const own = flat.leaves.map((leaf, i) => placeholder(leaf, `${name}${flat.paths[i]}`));
      const outputs = flatten(tracing(`jitted ${name}`, () => expectNoPromise("jit", f(...flat.rebuild(own) as A))));
      const args = own.map((tensor, i) => ({ tensor, name: nameOf(flat.paths[i]!) }));
      const finite = check === undefined ? null : buildFiniteCheck(args, outputs.leaves);
      const graph = freeze(own, [...outputs.leaves, ...finite?.outputs ?? []], targetOf(runtime));
      for (const { tensor } of graph.constants) {
        if (tensor.size * bytesPerElement(tensor.dtype) > CAPTURE_NOTICE_BYTES) {
          notice(`jitted ${name} captures ${formatAval(tensor)}, which stays on the device; pass it as an argument`);
        }
      }
      const donated = flat.paths.map((path) => isDonated(path));
      expectUsableDonation(name, flat, donated, outputs);
      const executable = runtime.compile(graph, name, { donated });
      const compiled = { graph, executable, outputs, resultCount: outputs.leaves.length, check: finite, runtime };
      cache.set(key, compiled);
      return compiled;
    } finally {
      setSiteRecording(recording);
    }
  }

  function isDonated(path: string): boolean {
    return donate.includes(placeOf(path).argument);
  }

  function keyOf(flat: FlatTree): string {
    return `${recordsSites() ? "sites|" : ""}${flat.structure}|${
      flat.leaves.map((leaf) => formatAval(leaf)).join(";")
    }`;
  }

  function jitted(...args: A): R {
    if (currentTrace() !== undefined) return f(...args);
    const flat = flatten(args);
    const compiled = compile(flat, keyOf(flat));
    const donated = flat.paths.map((path) => isDonated(path));
    expectNoAlias(name, flat, donated, compiled.graph);
    const use = `call ${name} with`;
    realize(flat.leaves, use);
    const inputs = flat.leaves.map((leaf) => storageOf(leaf, use));
    const constants = compiled.graph.constants.map(({ tensor }) => {
      realize([tensor]);
      return storageOf(tensor, `use in ${name}`);
    });
    calls++;
    const storages = compiled.executable.run([...inputs, ...constants], donated);
    if (donated.includes(true)) {
      const call = { to: name, donate, call: calls, site: rememberCallSite() };
      flat.leaves.forEach((leaf, i) => {
        if (donated[i]) setSource(leaf, { kind: "donated", donation: { ...call, ...placeOf(flat.paths[i]!) } });
      });
    }
    const results = storages.map((storage, i) => {
      const aval = compiled.graph.avals[compiled.graph.outputs[i]!]!;
      return fromStorage(aval, storage);
    });
    if (compiled.check) {
      addPendingCheck({
        runtime: compiled.runtime,
        label: `${name}, call ${calls}`,
        values: compiled.check.values,
        requests: results.slice(compiled.resultCount).map((tensor) => ({
          storage: storageOf(tensor, "check"),
          tensor,
        })),
      });
    }
    return compiled.outputs.rebuild(results.slice(0, compiled.resultCount)) as R;
  }

  function program(...args: A): string {
    const flat = flatten(args);
    return compile(flat, keyOf(flat)).executable.toString();
  }

  function memory(...args: A): MemoryPlan {
    const flat = flatten(args);
    return compile(flat, keyOf(flat)).executable.memory;
  }

  return Object.defineProperty(Object.assign(jitted, { program, memory }), "traces", { get: () => traces }) as Jitted<
    A,
    R
  >;
}

/** Takes a leaf's path among the arguments apart: which argument, and where in it. */
function placeOf(path: string): { readonly argument: number; readonly path: string } {
  const end = path.indexOf("]");
  return { argument: Number(path.slice(1, end)), path: path.slice(end + 1) };
}

/** How messages name a leaf among the arguments. */
function nameOf(leafPath: string): string {
  const { argument, path } = placeOf(leafPath);
  return `argument ${argument}${path === "" ? "" : `, ${path}`}`;
}

/** Type and shape of each leaf by its path: what a later call is compared with, without keeping the tensors. */
function typesOf(flat: FlatTree): ReadonlyMap<string, string> {
  return new Map(flat.leaves.map((leaf, i) => [flat.paths[i]!, formatAval(leaf)]));
}

function tooManyTraces(
  name: string,
  limit: number,
  before: ReadonlyMap<string, string> | null,
  now: ReadonlyMap<string, string>,
): TraceError {
  const changed = [...now].find(([path, type]) => before?.get(path) !== type);
  const what = changed !== undefined
    ? `${changed[0]} went from ${before?.get(changed[0]) ?? "nothing"} to ${changed[1]}`
    : "a static value (number, string or boolean) among the arguments";
  return new TraceError("trace/retrace", {
    summary: `Cannot compile ${name} again: it was traced ${limit} times already`,
    facts: [["changed", what], ["at", callSite()]],
    fix: "pass what changes from call to call as a tensor of one shape, or raise maxTraces",
    details: { name, limit },
  });
}

function expectNoAlias(name: string, flat: FlatTree, donated: readonly boolean[], graph: Graph): void {
  if (!donated.includes(true)) return;
  const captured = new Set(graph.constants.map(({ tensor }) => tensor));
  flat.leaves.forEach((leaf, i) => {
    if (!donated[i]) return;
    const twin = flat.leaves.findIndex((other, j) => j !== i && other === leaf);
    if (twin < 0 && !captured.has(leaf)) return;
    const { argument } = placeOf(flat.paths[i]!);
    throw new DonatedError("memory/donated-alias", {
      summary: `Cannot donate argument ${argument} to ${name}: ${
        twin < 0
          ? "the function also captures it"
          : sameTensor(flat.paths[Math.min(i, twin)]!, flat.paths[Math.max(i, twin)]!)
      }`,
      facts: [["tensor", formatAval(leaf)], ["at", callSite()]],
      fix: "pass each donated tensor once, and do not use it anywhere else in the call",
      details: { name, argument },
    });
  });
}

function sameTensor(first: string, second: string): string {
  const [a, b] = [placeOf(first), placeOf(second)];
  if (a.argument === b.argument) return `leaves ${a.path} and ${b.path} are the same tensor`;
  return `argument ${a.argument}${a.path} and argument ${b.argument}${b.path} are the same tensor`;
}

function expectUsableDonation(name: string, flat: FlatTree, donated: readonly boolean[], outputs: FlatTree): void {
  const available = new Map<number, number>();
  const bytesOf = (leaf: Tensor) => leaf.size * bytesPerElement(leaf.dtype);
  for (const leaf of outputs.leaves) available.set(bytesOf(leaf), (available.get(bytesOf(leaf)) ?? 0) + 1);
  flat.leaves.forEach((leaf, i) => {
    if (!donated[i]) return;
    const left = available.get(bytesOf(leaf)) ?? 0;
    if (left > 0) {
      available.set(bytesOf(leaf), left - 1);
      return;
    }
    const { argument, path } = placeOf(flat.paths[i]!);
    throw new DonatedError("memory/donated-unusable", {
      summary: `Cannot use the donation of argument ${argument} to ${name}: no result is left of ${
        path === "" ? "its size" : `the size of ${path}`
      }`,
      facts: [["tensor", `${formatAval(leaf)}, ${bytesOf(leaf)} bytes`], ["at", callSite()]],
      fix: "donate only arguments that the function replaces by results of the same size",
      details: { name, argument, path },
    });
  });
}
