/**
 * What the options of single routers must be: given to a router that has them, and at one with each other.
 *
 * @module
 */
import { type Checked, notCausal } from "./option_rules.ts";
import { mostKeptRows } from "./product_key_sizes.ts";
import { MEMORY_ROWS } from "./router_bodies.ts";
import type { RouterName } from "./routers.ts";
import { VARIANT_NAMES, VARIANT_OPTIONS, type VariantOptionName } from "./variants.ts";

/** Number of bytes that there are. */
const BYTES = 256;

type Rule = (checked: Checked) => void;

const RULES: Readonly<Partial<Record<RouterName, Rule>>> = {
  switch: checkCapacity,
  topk: checkCapacity,
  hash: checkTable,
  thor: checkPasses,
  dense: checkPasses,
  "topk-activation": checkKept,
  pkm: checkKept,
  memory: checkMemory,
  altup: checkAltUp,
};

/** Checks the options that only some routers have. */
export function checkVariant(checked: Checked): void {
  const { config, sound, report } = checked;
  const { router } = config;
  if (!sound("router")) return;
  for (const name of VARIANT_NAMES) {
    const value = config[name];
    if (value === null || !sound(name)) continue;
    const { routers, choices } = VARIANT_OPTIONS[name];
    if (!routers.includes(router)) {
      report(name, `has no meaning with router ${router}: it is for ${routers.join(", ")}`);
      continue;
    }
    const own = choices?.[router];
    if (own !== undefined && !own.includes(String(value))) {
      report(name, `must be one of ${own.join(", ")} with router ${router}`);
    }
  }
  RULES[router]?.(checked);
}

/** Reports each of the options that was given, though something makes it meaningless. */
function refuse(
  { config, report }: Checked,
  names: readonly VariantOptionName[],
  reason: string,
): void {
  for (const name of names) if (config[name] !== null) report(name, `has no meaning here: ${reason}`);
}

function checkCapacity(checked: Checked): void {
  const { config, sound, report } = checked;
  const { capacity, evalCapacity, priority, retries, experts, topk, allowNonCausal } = config;
  if (!sound("capacity", "evalCapacity")) return;
  if (capacity === null && evalCapacity === null) {
    refuse(checked, ["minCapacity", "priority", "retries"], "without capacity nothing is dropped");
    return;
  }
  if (sound("retries", "topk", "experts") && retries !== null && retries > 0) {
    if (topk > 1) report("retries", `must be 0 where a byte visits more than one expert (topk is ${topk})`);
    else if (retries >= experts) report("retries", `must be an integer in 0..${experts - 1} (experts is ${experts})`);
    else if (!allowNonCausal) {
      report("retries", notCausal("the first choices of later bytes come before a byte's second"));
    }
  }
  if (sound("priority") && priority === "probability" && !allowNonCausal) {
    report("priority", notCausal("a later byte can take a byte's place"));
  }
}

function checkTable(checked: Checked): void {
  const { config, sound, report } = checked;
  const { table, tableFrom, experts, allowNonCausal } = config;
  if (!sound("table")) return;
  const isClustered = table === "clustered" || table === "dispersed";
  if (table === "next" && !allowNonCausal) report("table", notCausal("it looks at the byte that is to be predicted"));
  if (isClustered && tableFrom === null && sound("tableFrom")) {
    report("table", "needs tableFrom, the folder of a dense run whose embeddings tell which bytes are like");
  }
  if (!isClustered) refuse(checked, ["tableFrom"], `a table that is ${table ?? "random"} needs no other run`);
  if (isClustered && sound("experts") && experts > BYTES) {
    report("experts", `must be at most ${BYTES} where table is ${table}: there are no more bytes to tell apart`);
  }
}

function checkPasses(checked: Checked): void {
  const { config, sound, report } = checked;
  const { router, consistency, dropout, draw, experts } = config;
  if (!sound("consistency")) return;
  if (router === "dense") {
    if (consistency !== null && sound("dropout") && (dropout ?? 0) === 0) {
      report("consistency", "needs dropout above 0 with router dense: two passes that draw nothing always agree");
    }
    return;
  }
  if (draw !== "distinct" || !sound("draw")) return;
  if (consistency === null) report("draw", "needs consistency: one pass draws one expert");
  if (sound("experts") && experts < 2) report("draw", `needs 2 experts (experts is ${experts})`);
}

function checkKept({ config, sound, report }: Checked): void {
  const { router, k, expertWidth } = config;
  if (k === null || !sound("k", "expertWidth")) return;
  const most = router === "pkm" ? mostKeptRows(expertWidth) : expertWidth;
  if (k > most) report("k", `must be an integer in 1..${most} (expertWidth is ${expertWidth})`);
}

function checkMemory(checked: Checked): void {
  const { config, sound, report } = checked;
  const { lookup, consume, rows, k } = config;
  if (sound("consume") && consume !== "experts") {
    refuse(checked, ["rank"], "it is for rows that are consumed as experts");
  }
  if (!sound("lookup")) return;
  if (lookup !== "softmax") refuse(checked, ["k", "aux", "zLoss"], "it is for lookup softmax");
  if (lookup === null || lookup === "id") refuse(checked, ["rows"], `lookup id has one row for each of ${BYTES} bytes`);
  if (!sound("rows")) return;
  const all = rows ?? MEMORY_ROWS;
  if (lookup === "lsh" && !Number.isInteger(Math.log2(all))) {
    report("rows", "must be a power of two: lookup lsh numbers rows by signs");
  }
  if (lookup === "cross-polytope" && all % 2 !== 0) {
    report("rows", "must be even: each direction and its opposite have a row");
  }
  if (lookup === "softmax" && k !== null && sound("k") && k > all) {
    report("k", `must be an integer in 1..${all} (rows is ${all})`);
  }
}

/** Layers around those that compute only some positions. */
const WHOLE_LAYERS = 2;

function checkAltUp(checked: Checked): void {
  const { config, sound, report } = checked;
  const { altup, layers } = config;
  if (!sound("altup")) return;
  if (altup !== "sequence") return refuse(checked, ["stride"], "it is for the form sequence");
  refuse(checked, ["altupBlock", "streams"], "the form sequence has one block");
  if (sound("layers") && layers <= WHOLE_LAYERS) {
    report("layers", `must be at least ${WHOLE_LAYERS + 1}: the first and the last compute every position`);
  }
}
