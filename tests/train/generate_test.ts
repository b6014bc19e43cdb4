import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConfigError, key, tensor } from "../../mod.ts";
import { resolveConfig } from "../../src/train/config.ts";
import { generate, type GenerateOptions, generateText } from "../../src/train/generate.ts";
import { buildModel, type Model, type ModelParams, VOCABULARY } from "../../src/train/model.ts";
import type { RouterName } from "../../src/train/routers.ts";
import { gpuTest } from "../support/runtimes.ts";
import { smallFlags } from "./support/runs.ts";
import { configOf, nameOf, VARIANTS } from "./support/variants.ts";

const OPTIONS: GenerateOptions = { prompt: bytes("Fellow "), tokens: 40, temperature: 1, seed: 3, window: 16 };

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function smallModel(router: RouterName): { readonly model: Model; readonly params: ModelParams } {
  const model = buildModel(resolveConfig({ adapter: "software", flags: smallFlags(router) }));
  return { model, params: model.init(key(5)) };
}

async function collect(model: Model, params: ModelParams, options: GenerateOptions): Promise<number[]> {
  const all: number[] = [];
  for await (const part of generate(model, params, options)) all.push(...part);
  return all;
}

/** The likeliest byte after each text, with the whole context read anew every time. */
async function generateSlowly(model: Model, params: ModelParams, options: GenerateOptions): Promise<number[]> {
  const { prompt, tokens, window } = options;
  const known = [...prompt];
  let start = 0;
  for (let done = 0; done < tokens; done++) {
    // Where the window is full, its later half is kept, the new byte among it.
    if (known.length - start > window) start = known.length - window / 2;
    const context = known.slice(start);
    // Padding comes after everything that is looked at, so a causal model does not see it.
    const ids = Uint32Array.from({ length: window }, (_, at) => context[at] ?? 0);
    const { logits } = model.apply(params, { ids: tensor(ids, { shape: [1, window], dtype: "u32" }) });
    const row = (await logits.data()).subarray((context.length - 1) * VOCABULARY, context.length * VOCABULARY);
    known.push(row.indexOf(Math.max(...row)));
  }
  return known.slice(prompt.length);
}

for (
  const router of [
    "dense",
    "switch",
    "topk",
    "hash",
    "multihash",
    "thor",
    "memory",
    "altup",
    "deepseek",
    "relu",
  ] as const
) {
  gpuTest(`generate() with router ${router} and a cache gives the likeliest bytes of a model without one`, async () => {
    const { model, params } = smallModel(router);
    const options = { ...OPTIONS, tokens: 21, temperature: 0 };
    assertEquals(await collect(model, params, options), await generateSlowly(model, params, options));
  });
}

for (
  const variant of VARIANTS.filter(({ router, flags: { table, inference, lookup, consume, capacity } }) =>
    router === "altup" || (router === "switch" && capacity !== undefined) || inference !== undefined ||
    lookup === "cross-polytope" || consume === "experts" || ["previous", "bigram", "position"].includes(String(table))
  )
) {
  gpuTest(`generate() gives the likeliest bytes of ${nameOf(variant)}`, async () => {
    const config = configOf(variant);
    const model = buildModel(config);
    const params = model.init(key(5));
    const options = { ...OPTIONS, tokens: 21, temperature: 0 };
    assertEquals(await collect(model, params, options), await generateSlowly(model, params, options));
  });
}

gpuTest("generate() gives the same bytes for the same seed, and others for another", async () => {
  const { model, params } = smallModel("switch");
  const first = await collect(model, params, OPTIONS);
  assertEquals(first.length, 40);
  assertEquals(await collect(model, params, OPTIONS), first);
  assert(String(await collect(model, params, { ...OPTIONS, seed: 4 })) !== String(first));
});

gpuTest("generate() takes prompts of any length: none, one that fills the window, one that exceeds it", async () => {
  const { model, params } = smallModel("switch");
  for (const length of [0, 1, 15, 16, 17, 100]) {
    const prompt = new Uint8Array(length).fill(97);
    assertEquals((await collect(model, params, { ...OPTIONS, prompt, tokens: 3 })).length, 3, `prompt of ${length}`);
  }
  assertEquals(await collect(model, params, { ...OPTIONS, tokens: 0 }), []);
  assertEquals((await collect(model, params, { ...OPTIONS, window: 1, tokens: 4 })).length, 4);
});

gpuTest("generateText() decodes what is not UTF-8 to replacement characters", async () => {
  const { model, params } = smallModel("switch");
  const raw = Uint8Array.from(await collect(model, params, { ...OPTIONS, tokens: 70 }));
  let text = "";
  for await (const part of generateText(model, params, { ...OPTIONS, tokens: 70 })) text += part;
  assertEquals(text, new TextDecoder().decode(raw));
  assert(text.includes("\ufffd"));
});

gpuTest("generate() rejects options out of range, all at once", async () => {
  const { model, params } = smallModel("switch");
  const error = await assertRejects(
    () => collect(model, params, { ...OPTIONS, tokens: -1, temperature: NaN, seed: 0.5, window: 0 }),
    ConfigError,
  );
  assertEquals(
    error.message,
    "Cannot build a generator: 4 options are invalid\n" +
      "  tokens       -1   must be a whole number from 0 up\n" +
      "  temperature  NaN  must be a number from 0 up\n" +
      "  seed         0.5  must be an integer in 0..4294967295\n" +
      "  window       0    must be a whole number from 1 up",
  );
});
