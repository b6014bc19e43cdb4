/**
 * The peer libraries by name.
 *
 * @module
 */
import { loadJax } from "./jax.ts";
import type { Library } from "./library.ts";
import { loadTfjs } from "./tfjs.ts";

export type { Library, Prepared } from "./library.ts";

/** Loads a library and starts its backend. */
export const LOADERS: Readonly<Record<string, (backend: string) => Promise<Library>>> = {
  "jax-js": loadJax,
  tfjs: loadTfjs,
};
