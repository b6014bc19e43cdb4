/**
 * Turns values of a graph into WGSL statements, on demand and once for each place: the reader names an element (or four
 * consecutive ones), the emitter walks the pulled values behind it down to loads.
 *
 * Indices are texts, see `indices.ts`. Equal text means equal element, so the memo works on texts.
 *
 * @module
 */
import type { Graph, GraphNode, ValueId } from "../core/graph.ts";
import type { Index, Lowering, ViewContext, ViewSource } from "../core/kernel.ts";
import { type Aval, type Shape, sizeOf } from "../core/shape.ts";
import { Indices } from "./indices.ts";
import { LANES, type ModuleWriter, wgslType } from "./module.ts";

interface Scope {
  readonly lines: string[];
  readonly names: Map<string, string>;
  /** Whether the block runs only under a condition, so that nothing may be computed before it instead. */
  readonly guarded: boolean;
}

type Reduce = Extract<Lowering<unknown>, { as: "reduce" }>;

/** Emits the statements of one function body. */
export class Emitter {
  readonly #graph: Graph;
  readonly #producer: ReadonlyMap<ValueId, GraphNode>;
  readonly #loaded: (id: ValueId) => boolean;
  readonly #module: ModuleWriter;
  readonly #scopes: Scope[] = [{ lines: [], names: new Map(), guarded: false }];
  /** Block in which a name is declared, by its depth. Names of the caller, such as `id`, are known everywhere. */
  readonly #depths = new Map<string, number>();
  readonly #indices = new Indices((expression) => this.bind(expression));
  /** Linear indices that are one of four consecutive ones. */
  readonly #laneOf = new Map<string, { readonly start: string; readonly lane: typeof LANES[number] }>();
  #count = 0;
  readonly #prefix: string;
  /** Finds the names made here in an expression. */
  readonly #names: RegExp;

  /**
   * @param loaded Whether a value is read from its buffer rather than evaluated.
   * @param prefix Keeps names of several functions in one module apart.
   */
  constructor(
    graph: Graph,
    producer: ReadonlyMap<ValueId, GraphNode>,
    module: ModuleWriter,
    loaded: (id: ValueId) => boolean,
    prefix = "v",
  ) {
    this.#graph = graph;
    this.#producer = producer;
    this.#module = module;
    this.#loaded = loaded;
    this.#prefix = prefix;
    this.#names = new RegExp(`\\b${prefix}\\d+\\b`, "g");
  }

  /** The statements so far, of the innermost open block. */
  get text(): string {
    return this.#scopes.at(-1)!.lines.join("\n");
  }

  /** Appends a statement. */
  line(text: string): void {
    this.#scopes.at(-1)!.lines.push(text);
  }

  /** Declares a variable with its first value, and names it. */
  variable(type: string, value: string): string {
    const name = this.#fresh(this.#scopes.length - 1);
    this.line(`var ${name} = ${type}(${value});`);
    return name;
  }

  /** A loop over `index` from a start to before an end. */
  loop(start: string, end: string, step: number, visit: (index: string) => void): void {
    const index = this.#fresh(this.#scopes.length);
    this.#block(`for (var ${index} = ${start}; ${index} < ${end}; ${index} += ${step}u)`, false, () => visit(index));
  }

  /** Statements that run only under a condition. */
  when(condition: string, emit: () => void): void {
    this.#block(`if (${condition})`, true, emit);
  }

  #fresh(depth: number): string {
    const name = `${this.#prefix}${this.#count++}`;
    this.#depths.set(name, depth);
    return name;
  }

  /** Runs `emit` in a block of its own, which sees the names around it, and appends it. */
  #block(head: string, guarded: boolean, emit: () => void): void {
    this.#scopes.push({ lines: [], names: new Map(), guarded });
    emit();
    const { lines } = this.#scopes.pop()!;
    this.line(`${head} {\n${lines.join("\n")}\n}`);
  }

  #lookup(key: string): string | undefined {
    for (let depth = this.#scopes.length - 1; depth >= 0; depth--) {
      const name = this.#scopes[depth]!.names.get(key);
      if (name !== undefined) return name;
    }
    return undefined;
  }

  /**
   * The outermost block that knows everything an expression names: what does not change in a loop is computed before it.
   * Drivers do not all do that, the software one does not.
   */
  #homeOf(expression: string): number {
    let home = Math.max(0, this.#scopes.findLastIndex(({ guarded }) => guarded));
    for (const [name] of expression.matchAll(this.#names)) home = Math.max(home, this.#depths.get(name) ?? 0);
    return home;
  }

  /** Names an expression; equal expressions share a name. Plain names and literals stay as they are. */
  bind(expression: string): string {
    if (/^[\w.]+$/.test(expression)) return expression;
    const known = this.#lookup(expression);
    if (known !== undefined) return known;
    const home = this.#homeOf(expression);
    const name = this.#fresh(home);
    this.#scopes[home]!.lines.push(`let ${name} = ${expression};`);
    this.#scopes[home]!.names.set(expression, name);
    return name;
  }

  /** Declares that an element of a value is known already, such as the result of a loop. */
  know(id: ValueId, index: string, lanes: 1 | 4, name: string): void {
    this.#scopes.at(-1)!.names.set(`${id}@${index}:${lanes}`, name);
  }

  /** Declares the running index of a row kernel, row · inner + at. A kernel of one row says row "0u", as views of it do. */
  enterRow(row: string, at: string, inner: number): string {
    return this.#indices.enterRow(row, at, inner);
  }

  /** The linear indices of four consecutive elements. They lie in one row if the first does: such rows are whole vec4s. */
  #lanesFrom(start: string): readonly string[] {
    return LANES.map((lane, k) => {
      const place = k === 0 ? start : this.#indices.behind(start, k);
      this.#laneOf.set(place, { start, lane });
      return place;
    });
  }

  /** An index from a linear expression. */
  linear(shape: Shape, expression: string): Index {
    return this.#indices.linear(shape, expression);
  }

  /** An index from coordinates. */
  at(shape: Shape, coords: readonly string[]): Index {
    return this.#indices.at(shape, coords);
  }

  /** The name of an element of a value, or of four consecutive ones from a linear index that is a multiple of 4. */
  value(id: ValueId, index: Index, lanes: 1 | 4): string {
    const place = index.linear();
    const key = `${id}@${place}:${lanes}`;
    const known = this.#lookup(key) ?? (lanes === 1 ? this.#componentOf(id, place) : undefined);
    if (known !== undefined) return known;
    const name = this.bind(this.#expression(id, index, lanes));
    this.#scopes[this.#homeOf(`${name} ${place}`)]!.names.set(key, name);
    return name;
  }

  /** An element of a value of which the four around it are known. */
  #componentOf(id: ValueId, place: string): string | undefined {
    const found = this.#laneOf.get(place);
    const four = found && this.#lookup(`${id}@${found.start}:4`);
    return four === undefined ? undefined : `${four}.${found!.lane}`;
  }

  #expression(id: ValueId, index: Index, lanes: 1 | 4): string {
    const aval = this.#graph.avals[id]!;
    if (this.#loaded(id)) return this.#module.load(`%${id}`, aval.dtype, index.linear(), lanes);
    const node = this.#producer.get(id)!;
    const { lower } = node.primitive;
    switch (lower.as) {
      case "expr":
        return lower.scalar && lanes === 4 ? this.#apart(id, index) : this.#expr(node, lower, index, lanes);
      case "index":
        if (lanes === 1) return lower.wgsl(index, node.attrs, aval);
        return lower.uniform
          ? `${wgslType(aval.dtype, 4)}(${lower.wgsl(index, node.attrs, aval)})`
          : this.#apart(id, index);
      case "view":
        return this.#view(node, lower, index, lanes);
      case "reduce":
        return this.#reduce(node, lower, index, lanes);
      default:
        throw new Error(`unreachable: ${node.primitive.name} cannot be evaluated inside a kernel`);
    }
  }

  /** Four elements one by one, where they do not lie together. */
  #apart(id: ValueId, index: Index): string {
    const { shape, dtype } = this.#graph.avals[id]!;
    const places = this.#lanesFrom(this.bind(index.linear()));
    const lanes = places.map((place) => this.value(id, this.linear(shape, place), 1));
    return `${wgslType(dtype, 4)}(${lanes.join(", ")})`;
  }

  #expr(node: GraphNode, lower: Extract<Lowering<unknown>, { as: "expr" }>, index: Index, lanes: 1 | 4): string {
    const place = index.linear();
    const args = node.inputs.map((id) => this.value(id, this.#sameElement(id, index, place), lanes));
    const width = {
      lanes,
      t: wgslType(this.#graph.avals[node.outputs[0]!]!.dtype, lanes),
      inputs: node.inputs.map((id) => wgslType(this.#graph.avals[id]!.dtype, lanes)),
    };
    if (lower.prelude) {
      const text = lower.prelude(width, node.attrs);
      this.#module.prelude(text, text);
    }
    return lower.wgsl(args, node.attrs, width);
  }

  #sameElement(id: ValueId, index: Index, place: string): Index {
    const { shape } = this.#graph.avals[id]!;
    return shape.length === index.shape.length ? { ...index, shape } : this.linear(shape, place);
  }

  #view(node: GraphNode, lower: Extract<Lowering<unknown>, { as: "view" }>, index: Index, lanes: 1 | 4): string {
    const output = this.#graph.avals[node.outputs[0]!]!;
    const inputs = node.inputs.map((id) => this.#graph.avals[id]!);
    const layouts = node.inputs.map((_, i) => lower.lanes?.(node.attrs, inputs, output, i) ?? "scattered");
    const context: ViewContext = {
      at: (shape, coords) => this.at(shape, coords),
      linear: (shape, expression) => this.linear(shape, expression),
      value: (input, at) => this.value(node.inputs[input]!, at, 1),
    };
    const sources = lower.sources(index, context, node.attrs, inputs);
    if (lanes === 4 && sources.some(({ input }) => layouts[input] === "scattered")) {
      return this.#apart(node.outputs[0]!, index);
    }
    const read = ({ input, index: from }: ViewSource) =>
      layouts[input] === "splat" && lanes === 4
        ? `${wgslType(output.dtype, 4)}(${this.value(node.inputs[input]!, from, 1)})`
        : this.value(node.inputs[input]!, from, lanes);
    const [first] = sources;
    return first !== undefined && first.when === undefined ? read(first) : this.#firstOf(sources, read, output, lanes);
  }

  /** The first source whose condition holds, or zero. Branches, because a load costs more than a branch. */
  #firstOf(
    sources: readonly ViewSource[],
    read: (source: ViewSource) => string,
    output: Aval,
    lanes: 1 | 4,
  ): string {
    const result = this.variable(wgslType(output.dtype, lanes), output.dtype === "bool" ? "false" : "0");
    const conditions: string[] = [];
    for (const [i, source] of sources.entries()) {
      // Not an else: two sources seldom share a branch, and four lanes of a driver that masks them cost the same.
      const condition = [...conditions.map((before) => `!${before}`), source.when ?? []].flat().join(" && ");
      this.when(condition, () => this.line(`${result} = ${read(source)};`));
      if (source.when === undefined) break;
      if (i + 1 < sources.length) conditions.push(this.bind(source.when));
    }
    return result;
  }

  /** A reduction inside a map kernel: a loop in each invocation. */
  #reduce(node: GraphNode, lower: Reduce, index: Index, lanes: 1 | 4): string {
    const input = this.#graph.avals[node.inputs[0]!]!;
    const output = this.#graph.avals[node.outputs[0]!]!;
    const axes = lower.axes(node.attrs);
    const parts = lower.parts?.(node.attrs) ?? 1;
    const last = input.shape.length - 1;
    const lastIsReduced = axes.includes(last);
    if (lanes === 4 && (lastIsReduced || input.shape[last]! % 4 !== 0)) return this.#apart(node.outputs[0]!, index);
    const sizes = axes.map((axis) => input.shape[axis]!);
    const length = sizeOf(sizes);
    const wide = lastIsReduced && input.shape[last]! % 4 === 0 ? 4 : lanes;
    const step = lastIsReduced && wide === 4 ? 4 : 1;
    const coords = index.coords();
    const t = wgslType(output.dtype, wide);
    let [start, end] = ["0u", `${length}u`];
    if (parts > 1) {
      const part = Math.ceil(length / parts / 4) * 4;
      start = this.bind(`${coords.at(-1)} * ${part}u`);
      end = this.bind(`min(${start} + ${part}u, ${length}u)`);
    }
    const accumulator = this.variable(t, lower.identity(output.dtype));
    this.loop(start, end, step, (r) => {
      const reduced = this.#indices.split(r, sizes);
      let kept = 0;
      const at = input.shape.map((_, axis) => axes.includes(axis) ? reduced[axes.indexOf(axis)]! : coords[kept++]!);
      const element = this.value(node.inputs[0]!, this.at(input.shape, at), wide);
      this.line(`${accumulator} = ${lower.combine(accumulator, element, t)};`);
    });
    return step === 4 ? this.fold(lower, accumulator, output.dtype) : accumulator;
  }

  /** Joins the four lanes of an accumulator, always in the same order. */
  fold(lower: Reduce, accumulator: string, dtype: Parameters<typeof wgslType>[0]): string {
    const t = wgslType(dtype, 1);
    const low = lower.combine(`${accumulator}.x`, `${accumulator}.y`, t);
    const high = lower.combine(`${accumulator}.z`, `${accumulator}.w`, t);
    return lower.combine(low, high, t);
  }
}
