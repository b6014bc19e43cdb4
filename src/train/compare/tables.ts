/**
 * Hash tables that are made from the embeddings of a trained dense model: which variants need one, and from which other
 * variant they get it.
 *
 * @module
 */
import type { VariantSpec } from "./comparison.ts";
import { optionNamed } from "./specs.ts";

const LEARNED_TABLES: readonly unknown[] = ["clustered", "dispersed"];

/** The name of a dense variant that is added for the sake of others. */
const ADDED = "dense";

/**
 * Says whether a variant's hash table is to be made from a dense variant of the same comparison.
 *
 * @param spec The variant.
 * @returns False also where it names the folder of another run itself.
 */
export function needsTable(spec: VariantSpec): boolean {
  return LEARNED_TABLES.includes(option(spec, "table")) && option(spec, "tableFrom") === undefined;
}

/**
 * Finds the variant that tables are made from.
 *
 * @param specs The variants.
 * @returns The name of the first one that is dense and nothing else, or undefined if there is none.
 */
export function tableSourceOf(specs: readonly VariantSpec[]): string | undefined {
  return specs.find((spec) => option(spec, "router") === "dense" && Object.keys(spec.options).length === 1)?.name;
}

/**
 * Adds a dense variant where a table needs one and there is none, and puts the one that tables are made from first.
 *
 * @param specs The variants.
 * @returns The variants in an order in which they can be trained.
 */
export function addTableSource(specs: readonly VariantSpec[]): readonly VariantSpec[] {
  if (!specs.some(needsTable)) return specs;
  const name = tableSourceOf(specs);
  const source = specs.find((spec) => spec.name === name) ??
    { name: ADDED, note: "Added for the hash tables that are made from it.", options: { router: "dense" } };
  return [source, ...specs.filter((spec) => spec !== source)];
}

function option({ options }: VariantSpec, name: string): unknown {
  const key = Object.keys(options).find((candidate) => (optionNamed(candidate) ?? candidate) === name);
  return key === undefined ? undefined : options[key];
}
