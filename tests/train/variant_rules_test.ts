import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { resolveConfig } from "../../src/train/config.ts";

type Flags = Readonly<Record<string, unknown>>;

/** The lines about options. */
function problemsOf(flags: Flags, values?: unknown): readonly string[] {
  const file = values === undefined ? {} : { file: { path: "train.json", values } };
  const error = assertThrows(() => resolveConfig({ adapter: "software", flags, ...file }), ConfigError);
  return error.message.split("\n").slice(1).map((line) => line.trim());
}

Deno.test("resolveConfig() refuses options of other routers, and values that a router does not have, all at once", () => {
  const error = assertThrows(
    () =>
      resolveConfig({
        adapter: "software",
        file: { path: "train.json", values: { score: "relu", capacity: 1.25, lookup: null } },
        flags: { router: "sigma", draw: "distinct", "expert-dropout": "1", "inner-dropout": "0.2", streams: "3" },
      }),
    ConfigError,
  );
  assertEquals(
    error.message,
    "Cannot start the run: 5 options are invalid\n" +
      "  --expert-dropout  1           must be at least 0 and below 1\n" +
      "  capacity          1.25        has no meaning with router sigma: it is for switch, topk\n" +
      '  score             "relu"      must be one of sigmoid, softmax-before, softmax-after with router sigma\n' +
      '  --draw            "distinct"  has no meaning with router sigma: it is for thor\n' +
      "  --streams         3           has no meaning with router sigma: it is for altup",
  );
});

Deno.test("resolveConfig() names the choices of an option and the likely one", () => {
  assertEquals(problemsOf({ table: "balance", router: "hash" }), [
    '--table  "balance"  must be one of random, hashed, balanced, clustered, dispersed, previous, bigram, position, next; ' +
    "did you mean balanced?",
  ]);
});

Deno.test("resolveConfig() checks the options of a router against each other", () => {
  for (
    const [flags, ...lines] of [
      [
        { router: "switch", retries: "1", "min-capacity": "2" },
        "--min-capacity  2  has no meaning here: without capacity nothing is dropped",
        "--retries       1  has no meaning here: without capacity nothing is dropped",
      ],
      [
        { router: "switch", capacity: "1", retries: "1", priority: "probability" },
        "--retries   1              is not causal: the first choices of later bytes come before a byte's second; " +
        "allow-non-causal trains it all the same",
        '--priority  "probability"  is not causal: a later byte can take a byte\'s place; ' +
        "allow-non-causal trains it all the same",
      ],
      [
        { router: "topk", capacity: "1", retries: "1" },
        "--retries  1  must be 0 where a byte visits more than one expert (topk is 2)",
      ],
      [
        { router: "switch", capacity: "1", retries: "8" },
        "--retries  8  must be an integer in 0..7 (experts is 8)",
      ],
      [{ router: "switch", capacity: "0" }, "--capacity  0  must be above 0 and at most 1000000"],
      [
        { router: "hash", table: "next" },
        '--table  "next"  is not causal: it looks at the byte that is to be predicted; ' +
        "allow-non-causal trains it all the same",
      ],
      [
        { router: "hash", table: "clustered" },
        '--table  "clustered"  needs tableFrom, the folder of a dense run whose embeddings tell which bytes are like',
      ],
      [
        { router: "hash", table: "clustered", "table-from": "runs/a", experts: "300" },
        "--experts  300  must be at most 256 where table is clustered: there are no more bytes to tell apart",
      ],
      [
        { router: "hash", table: "balanced", "table-from": "runs/a" },
        '--table-from  "runs/a"  has no meaning here: a table that is balanced needs no other run',
      ],
      [
        { router: "dense", consistency: "5" },
        "--consistency  5  needs dropout above 0 with router dense: two passes that draw nothing always agree",
      ],
      [{ router: "thor", draw: "distinct" }, '--draw  "distinct"  needs consistency: one pass draws one expert'],
      [
        { router: "thor", draw: "distinct", consistency: "0", experts: "1" },
        '--draw  "distinct"  needs 2 experts (experts is 1)',
      ],
      [{ router: "topk-activation", k: "257" }, "--k  257  must be an integer in 1..256 (expertWidth is 256)"],
      [{ router: "pkm", k: "65" }, "--k  65  must be an integer in 1..64 (expertWidth is 256)"],
      [
        { router: "memory", k: "2", rows: "64", rank: "4", aux: "0" },
        "--rank  4   has no meaning here: it is for rows that are consumed as experts",
        "--k     2   has no meaning here: it is for lookup softmax",
        "--aux   0   has no meaning here: it is for lookup softmax",
        "--rows  64  has no meaning here: lookup id has one row for each of 256 bytes",
      ],
      [
        { router: "memory", lookup: "lsh", rows: "100" },
        "--rows  100  must be a power of two: lookup lsh numbers rows by signs",
      ],
      [
        { router: "memory", lookup: "cross-polytope", rows: "7" },
        "--rows  7  must be even: each direction and its opposite have a row",
      ],
      [
        { router: "memory", lookup: "softmax", rows: "4", k: "5" },
        "--k  5  must be an integer in 1..4 (rows is 4)",
      ],
      [{ router: "memory", lookup: "softmax", k: "257" }, "--k  257  must be an integer in 1..256 (rows is 256)"],
      [
        { router: "altup", altup: "sequence", streams: "2", "altup-block": "same" },
        '--altup-block  "same"  has no meaning here: the form sequence has one block',
        "--streams      2       has no meaning here: the form sequence has one block",
        "layers         2       must be at least 3: the first and the last compute every position",
      ],
      [{ router: "altup", stride: "2" }, "--stride  2  has no meaning here: it is for the form sequence"],
      [{ router: "altup", dropout: "0.1" }, problemOfDropout()],
    ] as const
  ) assertEquals(problemsOf(flags), lines);

  function problemOfDropout(): string {
    return "--dropout  0.1  has no meaning with router altup: it is for dense, switch, topk, hash, multihash, thor, sigma, " +
      "topk-activation, pkm, memory, base, sinkhorn, expert-choice, noisy-topk, deepseek, soft-moe, smear, relu";
  }
});

Deno.test("resolveConfig() takes what is not causal where that is allowed", () => {
  for (
    const flags of [
      { router: "soft-moe" },
      { router: "hash", table: "next" },
      { router: "switch", capacity: "1", retries: "7", priority: "probability" },
    ]
  ) {
    const config = resolveConfig({ adapter: "software", flags: { ...flags, "allow-non-causal": true } });
    assertEquals([config.router, config.allowNonCausal], [flags.router, true]);
  }
});

Deno.test("resolveConfig() keeps the options of a router on resume", () => {
  const saved = resolveConfig({ adapter: "software", flags: { router: "thor", inference: "token" } });
  const resume = "runs/a";
  assertEquals(resolveConfig({ adapter: "hardware", saved, flags: { resume, inference: "token" } }).inference, "token");
  const error = assertThrows(
    () => resolveConfig({ adapter: "hardware", saved, flags: { resume, inference: "sentence", consistency: "5" } }),
    ConfigError,
  );
  assertEquals(
    error.message,
    "Cannot start the run: 2 options are invalid\n" +
      '  --inference    "sentence"  cannot change on resume: the run has token\n' +
      "  --consistency  5           cannot change on resume: the run has none",
  );
});
