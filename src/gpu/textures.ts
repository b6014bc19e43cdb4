/**
 * GPU textures that kernels fill and read within a program: created once for each size and shared by all programs.
 *
 * @module
 */
import { textureBytes, type TextureSlot } from "./slots.ts";

/** A texture as a kernel binds it. */
export interface TexturePlace {
  /** The view of its only level. */
  readonly view: GPUTextureView;
  /** The texture itself. */
  readonly texture: GPUTexture;
  /** Distinguishes textures from each other and from buffers in bind-group keys. */
  readonly id: number;
}

interface Kept extends TexturePlace {
  readonly bytes: number;
}

/** Keeps textures by size. Programs run one after another, so all of them may use the same ones. */
export class TexturePool {
  readonly #device: GPUDevice;
  readonly #bySize = new Map<string, Kept[]>();
  #bytes = 0;
  #created = 0;

  /** @param device Where textures live. */
  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Bytes of all textures kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many textures were ever created. */
  get created(): number {
    return this.#created;
  }

  /** Bytes that {@linkcode acquire} would add for these sizes. */
  missingBytes(sizes: readonly TextureSlot[]): number {
    const wanted = new Map<string, number>();
    let missing = 0;
    for (const size of sizes) {
      const key = keyOf(size);
      const count = (wanted.get(key) ?? 0) + 1;
      wanted.set(key, count);
      if (count > (this.#bySize.get(key)?.length ?? 0)) missing += textureBytes(size);
    }
    return missing;
  }

  /** A different texture for each size, created where too few are kept. */
  acquire(sizes: readonly TextureSlot[]): readonly TexturePlace[] {
    const used = new Map<string, number>();
    return sizes.map((size) => {
      const key = keyOf(size);
      const place = used.get(key) ?? 0;
      used.set(key, place + 1);
      let kept = this.#bySize.get(key);
      if (kept === undefined) this.#bySize.set(key, kept = []);
      return kept[place] ??= this.#create(size);
    });
  }

  #create(size: TextureSlot): Kept {
    const texture = this.#device.createTexture({
      size: [size.width, size.height],
      format: "rgba32float",
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_DST,
    });
    const bytes = textureBytes(size);
    this.#bytes += bytes;
    // Buffers count up from 1, textures down from -1.
    return { texture, view: texture.createView(), id: -(++this.#created), bytes };
  }

  /** Destroys all textures. The queue's order protects work already submitted. */
  trim(): void {
    for (const kept of this.#bySize.values()) for (const { texture } of kept) texture.destroy();
    this.#bySize.clear();
    this.#bytes = 0;
  }
}

function keyOf({ width, height }: TextureSlot): string {
  return `${width}x${height}`;
}
