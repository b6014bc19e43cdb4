/**
 * Uploading host batches into the same device memory at every step.
 *
 * @module
 */
import type { HostData } from "../core/dtype.ts";
import { realize, storageOf } from "../core/realize.ts";
import { currentRuntime } from "../core/runtime.ts";
import { formatAval } from "../core/shape.ts";
import { fromHost, sourceOf, type Tensor } from "../core/tensor.ts";
import { flatten } from "../core/tree.ts";

interface Slot {
  readonly tensor: Tensor;
  data: HostData;
}

/** Device tensors that take one batch after another. */
export interface BatchInputs extends Disposable {
  /**
   * Puts a batch on the device.
   *
   * Tensors whose data is still on the host are written over those of the batch before and stay on the host
   * themselves; tensors on the device are used as they are. What was computed from the batch before must be realized.
   *
   * @returns The batch to compute with until the next call.
   */
  load<B>(batch: B): B;
}

/** Makes empty inputs; the first batch of each shape allocates. */
export function batchInputs(): BatchInputs {
  const slots = new Map<string, Slot>();

  function write(path: string, tensor: Tensor, data: HostData): Tensor {
    const name = `${path}:${formatAval(tensor)}`;
    const slot = slots.get(name);
    if (slot === undefined) {
      const own = fromHost({ shape: tensor.shape, dtype: tensor.dtype }, data);
      storageOf(own, "load a batch into");
      slots.set(name, { tensor: own, data });
      return own;
    }
    // A tensor's host data never changes, so the same array is on the device already.
    if (slot.data !== data) {
      currentRuntime("load a batch").overwrite(storageOf(slot.tensor, "load a batch into"), slot.tensor, data);
      slot.data = data;
    }
    return slot.tensor;
  }

  return {
    load<B>(batch: B): B {
      const flat = flatten(batch, "batch");
      const loaded = flat.leaves.map((leaf, i) => {
        const source = sourceOf(leaf);
        return source.kind === "host" ? write(flat.paths[i]!, leaf, source.data) : leaf;
      });
      realize(loaded);
      return flat.rebuild(loaded) as B;
    },
    [Symbol.dispose](): void {
      for (const { tensor } of slots.values()) tensor.dispose();
      slots.clear();
    },
  };
}
