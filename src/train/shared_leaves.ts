/**
 * How much of a model's parameters one byte uses.
 *
 * @module
 */
import { PRODUCT_KEY_HEADS, productKeySizes } from "./product_key_sizes.ts";
import { type BodyOptions, MEMORY_ROWS } from "./router_bodies.ts";
import type { RouterName } from "./routers.ts";
import { DEFAULT_STRIDE } from "./sequence_block.ts";

/** Parameters of which a token uses a share. */
export interface SharedLeaves {
  /** Which, by path. */
  readonly leaves: RegExp;
  /** The share. */
  readonly share: number;
}

/** Matches no path. */
const NONE = /(?!)/;

/**
 * Tells which parameters of a model a token uses in part only, and what part (on average, where the router decides).
 *
 * @param router The model's router.
 * @param options The sizes and the options of the router.
 */
export function sharedLeaves(router: RouterName, options: BodyOptions): SharedLeaves {
  const { vocabulary, experts, topk, lookup, rows, k } = options;
  switch (router) {
    case "multihash":
      return { leaves: /\.body\.(up|down)\./, share: 1 / experts };
    case "memory": {
      const all = lookup === null || lookup === "id" ? vocabulary : rows ?? MEMORY_ROWS;
      return { leaves: /\.body\.(rows$|experts\.)/, share: (k ?? 1) / all };
    }
    case "pkm": {
      const { halfKeys, k: read } = productKeySizes(options.expertWidth, k);
      return { leaves: /\.body\.values$/, share: Math.min(1, PRODUCT_KEY_HEADS * read / halfKeys ** 2) };
    }
    case "altup":
      return options.altup === "sequence"
        ? { leaves: computedLeaves(options.layers), share: 1 / (options.stride ?? DEFAULT_STRIDE) }
        : { leaves: NONE, share: 1 };
    default:
      return { leaves: /\.experts\./, share: topk / experts };
  }
}

/** What is applied to some positions only: the layers between the first and the last, but not the numbers beside them. */
function computedLeaves(layers: number): RegExp {
  const inner = Array.from({ length: layers - 2 }, (_, i) => i + 1).join("|");
  return new RegExp(`\\.blocks\\[(${inner})\\]\\.(attention|attentionNorm|bodyNorm|body\\.layer)\\.`);
}
