/**
 * What the two processes say to each other, and the files through which arrays go.
 *
 * @module
 */
import type { HostArray, HostArrays, Outputs, Task } from "./task.ts";

/** Shape and type of an array whose elements are in a file named like it. */
export type ArrayHeads = Readonly<Record<string, Pick<HostArray, "shape" | "dtype">>>;

/** A line to the worker. */
export type Request =
  /** Loads a library and starts its backend. */
  | { readonly ask: "load"; readonly library: string; readonly backend: string }
  /** Reads inputs, makes the task ready, and writes what one call computes. */
  | {
    readonly ask: "prepare";
    readonly task: Task;
    readonly form: string;
    readonly folder: string;
    readonly inputs: ArrayHeads;
  }
  /** Makes calls, and waits for them at the end. */
  | { readonly ask: "turn"; readonly calls: number; readonly settle: boolean };

/** A line from the worker. */
export interface Reply {
  /** Milliseconds of a turn. */
  readonly ms?: number;
  /** Why the request failed. */
  readonly error?: string;
  /** What the library logged as errors meanwhile. */
  readonly logged?: string;
}

/** Splits a stream into lines. */
export async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** Writes arrays to a folder. */
export async function writeArrays(folder: string, arrays: HostArrays): Promise<ArrayHeads> {
  const heads: Record<string, ArrayHeads[string]> = {};
  for (const [name, { shape, dtype, data }] of Object.entries(arrays)) {
    await Deno.writeFile(`${folder}/${name}.bin`, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    heads[name] = { shape, dtype };
  }
  return heads;
}

/** Reads arrays from a folder. */
export async function readArrays(folder: string, heads: ArrayHeads): Promise<HostArrays> {
  const arrays: Record<string, HostArray> = {};
  for (const [name, { shape, dtype }] of Object.entries(heads)) {
    const { buffer } = await Deno.readFile(`${folder}/${name}.bin`);
    arrays[name] = { shape, dtype, data: dtype === "f32" ? new Float32Array(buffer) : new Int32Array(buffer) };
  }
  return arrays;
}

const OUTPUTS = "outputs";

/** Writes results to a folder. */
export async function writeOutputs(folder: string, outputs: Outputs): Promise<void> {
  const target = `${folder}/${OUTPUTS}`;
  await Deno.mkdir(target, { recursive: true });
  for (const [name, data] of Object.entries(outputs)) {
    const { buffer, byteOffset, byteLength } = Float32Array.from(data);
    await Deno.writeFile(`${target}/${name}.bin`, new Uint8Array(buffer, byteOffset, byteLength));
  }
}

/** Reads results from a folder, and removes them there. */
export async function readOutputs(folder: string): Promise<Outputs> {
  const outputs: Record<string, Float32Array> = {};
  const source = `${folder}/${OUTPUTS}`;
  for await (const { name } of Deno.readDir(source)) {
    outputs[name.replace(/\.bin$/, "")] = new Float32Array((await Deno.readFile(`${source}/${name}`)).buffer);
  }
  await Deno.remove(source, { recursive: true });
  return outputs;
}
