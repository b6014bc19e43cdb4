/**
 * A runtime without a device: every tensor is computed in float64 on the host. For tests and for checking a result
 * against the definition; `installRuntime(oracleRuntime())` switches to it.
 *
 * @module
 */
import { hostArrayFor, type HostData, isFloat } from "./dtype.ts";
import type { Graph } from "./graph.ts";
import type { AdapterTraits } from "./kernel.ts";
import { evaluate } from "./oracle.ts";
import type { HostArray } from "./primitive.ts";
import type { Executable, MemoryPlan, MemoryReport, Runtime, Storage } from "./runtime.ts";
import { sizeOf } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

interface HostStorage extends Storage {
  array: HostArray;
}

const TRAITS: AdapterTraits = {
  name: "float64 oracle",
  software: true,
  f16: true,
  workgroupBytes: 0,
  workgroupInvocations: 0,
  storageBuffers: 0,
  textureSide: 0,
};

function hold(array: HostArray): HostStorage {
  return { bytes: array.data.byteLength, array };
}

/** On the host every intermediate is garbage collected, and nothing is taken over. */
function planOf({ avals, inputs, constants, outputs }: Graph): MemoryPlan {
  const bytesOf = (ids: readonly number[]) =>
    ids.reduce((sum, id) => sum + sizeOf(avals[id]!.shape) * Float64Array.BYTES_PER_ELEMENT, 0);
  const argumentBytes = bytesOf([...inputs, ...constants.map(({ value }) => value)]);
  const resultBytes = bytesOf(outputs);
  return { argumentBytes, resultBytes, scratchBytes: 0, peakBytes: argumentBytes + resultBytes };
}

/** Makes an oracle runtime. Float tensors read as Float64Array, so that numeric derivatives are tight. */
export function oracleRuntime(): Runtime & { readonly isOracle: true } {
  let liveBytes = 0;
  function toStorage(tensor: Tensor, data: HostData): HostStorage {
    const storage = hold({ shape: tensor.shape, dtype: tensor.dtype, data: Float64Array.from(data) });
    liveBytes += storage.bytes;
    return storage;
  }
  return {
    isOracle: true,
    adapter: TRAITS,
    compile(graph: Graph): Executable {
      return {
        memory: planOf(graph),
        run: (inputs) =>
          evaluate(graph, inputs.map((input) => (input as HostStorage).array)).map((array) => {
            liveBytes += array.data.byteLength;
            return hold(array);
          }),
        toString: () => "evaluated by the float64 oracle",
      };
    },
    upload: toStorage,
    overwrite(storage, tensor, data) {
      (storage as HostStorage).array = { shape: tensor.shape, dtype: tensor.dtype, data: Float64Array.from(data) };
    },
    read: (requests) =>
      Promise.resolve(requests.map(({ storage, tensor }) => {
        const { data } = (storage as HostStorage).array;
        if (isFloat(tensor.dtype)) return data.slice();
        const copy = hostArrayFor(tensor.dtype, data.length);
        copy.set(data);
        return copy;
      })),
    release(storage) {
      liveBytes -= storage.bytes;
    },
    adopt: () => {},
    settle: () => Promise.resolve(),
    memory: (): MemoryReport => ({
      liveBytes,
      pooledBytes: 0,
      scratchBytes: 0,
      allocations: 0,
      budgetBytes: Infinity,
    }),
  };
}
