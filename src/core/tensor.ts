/**
 * The tensor: an immutable, lazily computed value and node of one DAG. Ops append nodes and compute nothing.
 *
 * @module
 */
import { type DType, type HostData, isFloat } from "./dtype.ts";
import { callSite, DonatedError, ReleasedError, ShapeError, TraceError } from "./errors.ts";
import type { Attrs, Primitive } from "./primitive.ts";
import { currentRuntime, hasRuntime, type Storage } from "./runtime.ts";
import { type Aval, formatAval, type Shape, sizeOf } from "./shape.ts";
import { read } from "./realize.ts";

/** An op that has not been computed. */
export interface OpNode {
  /** Grows with creation, so that ascending ids are a topological order. */
  readonly id: number;
  /** What it computes. */
  readonly primitive: Primitive;
  /** Its operands. */
  readonly inputs: readonly Tensor[];
  /** Its static parameters. */
  readonly attrs: Attrs;
  /** Its results; set once, right after construction. */
  readonly outputs: readonly Tensor[];
  /** The user's line, kept only while sites are recorded. */
  readonly site?: string;
}

/** What became of a tensor whose buffer a jitted call took over. */
export interface Donation {
  /** Name of the jitted function. */
  readonly to: string;
  /** Number of the argument that held the tensor. */
  readonly argument: number;
  /** Path of the tensor in that argument, empty if it was the argument. */
  readonly path: string;
  /** The arguments that function donates. */
  readonly donate: readonly number[];
  /** Which call of it. */
  readonly call: number;
  /** Finds the user's line of that call. */
  readonly site: () => string;
}

/** Where a tensor's elements come from. */
export type Source =
  | { readonly kind: "op"; readonly node: OpNode }
  | { readonly kind: "host"; readonly data: HostData }
  | { readonly kind: "device"; readonly storage: Storage }
  | { readonly kind: "placeholder"; readonly label: string }
  | { readonly kind: "donated"; readonly donation: Donation }
  | { readonly kind: "released" };

let nextId = 1;
let recordSites = false;

/** Turns recording of creation sites on or off and returns the previous setting. A site costs more than an op. */
export function setSiteRecording(on: boolean): boolean {
  const previous = recordSites;
  recordSites = on;
  return previous;
}

/** Whether new nodes remember the user's line. */
export function recordsSites(): boolean {
  return recordSites;
}

let siteOfOrigin: string | undefined;

/** Runs with new nodes at a line given here: what a transform derives from a node was written where the node was. */
export function atSite<T>(site: string | undefined, run: () => T): T {
  if (site === undefined) return run();
  const before = siteOfOrigin;
  siteOfOrigin = site;
  try {
    return run();
  } finally {
    siteOfOrigin = before;
  }
}

let readSource: (tensor: Tensor) => Source;
let writeSource: (tensor: Tensor, source: Source) => void;
let countPending: (tensor: Tensor, change: 1 | -1) => void;

/**
 * An immutable array of numbers or booleans, computed when it is read.
 *
 * Make one with `tensor`, `zeros`, `arange` or any op; ops are functions (`add(x, y)`), not methods. Reading is
 * asynchronous: `data()` computes what is needed and copies once. Disposal is optional.
 *
 * @example Reading a value
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { add, init, tensor } from "@switchyard/switchyard";
 *
 * await init();
 * const sum = add(tensor([1, 2, 3]), 1);
 * assertEquals([...await sum.data()], [2, 3, 4]);
 * ```
 */
export class Tensor implements Disposable {
  /** Sizes of the axes, outermost first. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
  /** Creation order; also the topological order of the DAG. */
  readonly id: number;
  #source: Source;
  #disposed = false;
  #pending = 0;

  static {
    readSource = (tensor) => tensor.#source;
    writeSource = (tensor, source) => {
      tensor.#source = source;
    };
    countPending = (tensor, change) => {
      tensor.#pending += change;
      if (tensor.#disposed && tensor.#pending <= 0) tensor.#free();
    };
  }

  /** For the library; users make tensors with `tensor` and ops. */
  constructor(aval: Aval, source: object) {
    this.shape = aval.shape;
    this.dtype = aval.dtype;
    this.size = sizeOf(aval.shape);
    this.id = nextId++;
    this.#source = source as Source;
  }

  /**
   * Computes the tensor if needed and copies its elements to the host, in row-major order.
   *
   * Read several tensors with `read(tree)`: each read costs a round trip to the device.
   *
   * @returns Float32Array for float types, Int32Array, Uint32Array, or Uint8Array for bool.
   * @throws {TraceError} If the value depends on an argument of a function being traced.
   * @throws {DonatedError} If its buffer was donated.
   */
  async data(): Promise<HostData> {
    if (this.#disposed) throw released(this);
    const [data] = await read([this] as const);
    return data;
  }

  /**
   * The only element of a tensor of size 1.
   *
   * @throws {ShapeError} If the tensor has more or fewer elements.
   */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError("shape/item", {
        summary: `Cannot take the item of ${formatAval(this)}: it has ${this.size} elements`,
        fix: "reduce it to one element first, or use data()",
      });
    }
    return (await this.data())[0]!;
  }

  /** Gives the buffer back at the end of a `using` block. Lazy tensors that still need it keep it. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Gives the buffer back now; reading this handle afterwards throws. Calling it twice is harmless. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#pending <= 0) this.#free();
  }

  /** Whether `dispose` was called on this handle. */
  get disposed(): boolean {
    return this.#disposed;
  }

  #free(): void {
    const source = this.#source;
    if (source.kind === "donated" || source.kind === "released") return;
    this.#source = { kind: "released" };
    if (source.kind === "device" && hasRuntime()) currentRuntime("release a tensor").release(source.storage);
  }

  /** Prints type and shape, such as `Tensor f32[2, 3]`. */
  toString(): string {
    return `Tensor ${formatAval(this)}`;
  }

  /** Coercion to a number would have to wait for the device: always throws. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === "string") return this.toString();
    throw new TraceError("trace/coercion", {
      summary: `Cannot use ${formatAval(this)} as a number: its value is not on the host`,
      facts: [["at", callSite()]],
      fix: "use ops (add, mul, where) on tensors, or await item() outside a traced function",
    });
  }
}

/** Where a tensor's elements come from. */
export function sourceOf(tensor: Tensor): Source {
  return readSource(tensor);
}

/** Replaces a tensor's source after it was realized, donated or released. */
export function setSource(tensor: Tensor, source: Source): void {
  const before = readSource(tensor);
  writeSource(tensor, source);
  if (before.kind === "op" && source.kind !== "op") {
    for (const input of before.node.inputs) countPending(input, -1);
  }
}

function released(tensor: Tensor): ReleasedError {
  return new ReleasedError("memory/released", {
    summary: `Cannot use tensor ${formatAval(tensor)}: it was disposed`,
    facts: [["at", callSite()]],
    fix: "dispose a tensor after its last use, or let the runtime collect it",
  });
}

function donated(tensor: Tensor, use: string, { to, argument, path, donate, call, site }: Donation): DonatedError {
  return new DonatedError("memory/donated", {
    summary: `Cannot ${use} tensor ${formatAval(tensor)}: its buffer was donated`,
    facts: [
      ["tensor", `argument ${argument}${path === "" ? "" : `, ${path}`}`],
      ["donated", `to ${to} (donate: [${donate.join(", ")}]), call ${call}, ${site()}`],
      ["used", callSite()],
    ],
    fix: `use the value that call ${call} returned, or remove ${argument} from donate`,
    details: { shape: tensor.shape, dtype: tensor.dtype, to, argument, path, call },
  });
}

/**
 * The source of a tensor that is about to be used.
 *
 * @throws {DonatedError} If its buffer was donated.
 * @throws {ReleasedError} If it was disposed.
 */
export function expectUsable(tensor: Tensor, use: string): Source {
  const source = readSource(tensor);
  if (source.kind === "donated") throw donated(tensor, use, source.donation);
  if (source.kind === "released") throw released(tensor);
  return source;
}

/**
 * Appends a node to the DAG.
 *
 * @returns One tensor for each output.
 * @throws {ShapeError} Or DTypeError, from the primitive's shape rule.
 */
export function applyAll(primitive: Primitive, inputs: readonly Tensor[], attrs: Attrs): readonly Tensor[] {
  for (const input of inputs) {
    const { kind } = readSource(input);
    if (kind === "donated" || kind === "released") expectUsable(input, `apply ${primitive.name} to`);
  }
  const avals = primitive.shape(inputs, attrs);
  const outputs: Tensor[] = [];
  const node: OpNode = {
    id: nextId++,
    primitive,
    inputs,
    attrs,
    outputs,
    ...(recordSites ? { site: siteOfOrigin ?? callSite() } : {}),
  };
  for (const aval of avals) {
    outputs.push(new Tensor(aval, { kind: "op", node } satisfies Source));
    for (const input of inputs) countPending(input, 1);
  }
  return outputs;
}

/** Appends a node with a single output. */
export function apply(primitive: Primitive, inputs: readonly Tensor[], attrs: Attrs = null): Tensor {
  return applyAll(primitive, inputs, attrs)[0]!;
}

/** Makes a tensor that stands for an argument while a function is traced. */
export function placeholder(aval: Aval, label: string): Tensor {
  return new Tensor({ shape: aval.shape, dtype: aval.dtype }, { kind: "placeholder", label } satisfies Source);
}

/** Makes a tensor from host data, which must not be changed afterwards. */
export function fromHost(aval: Aval, data: HostData): Tensor {
  return new Tensor(aval, { kind: "host", data } satisfies Source);
}

/** Makes a tensor that owns a storage; the storage dies with it. */
export function fromStorage(aval: Aval, storage: Storage): Tensor {
  const tensor = new Tensor({ shape: aval.shape, dtype: aval.dtype }, { kind: "device", storage } satisfies Source);
  currentRuntime("make a tensor").adopt(tensor, storage);
  return tensor;
}

/** Whether a tensor carries derivatives. */
export function isDifferentiable(tensor: Tensor): boolean {
  return isFloat(tensor.dtype);
}

const traces: string[] = [];
let traceCount = 0;

/** Runs a function while it is being traced, so that reads inside it can be refused by name. */
export function tracing<T>(name: string, run: () => T): T {
  traces.push(`${name}#${++traceCount}`);
  try {
    return run();
  } finally {
    traces.pop();
  }
}

/** The traces under way, outermost first: tokens that differ between traces. */
export function currentTraces(): readonly string[] {
  return [...traces];
}

/** Whether some function is being traced, and which: a token that differs between traces. */
export function currentTrace(): string | undefined {
  return traces.at(-1);
}

/**
 * Refuses to read a value while a function is traced.
 *
 * @throws {TraceError} If one is.
 */
export function expectOutsideTrace(tensor: Tensor, use: string): void {
  const trace = traces.at(-1);
  if (trace === undefined) return;
  throw new TraceError("trace/read", {
    summary: `Cannot ${use} ${formatAval(tensor)} inside ${
      trace.split("#")[0]
    }: the function is being traced, so it has no value yet`,
    facts: [["at", callSite()]],
    fix: "return the tensor and read it outside, or use where() for a choice that depends on data",
  });
}
