/**
 * Text for the training steps of presets.
 *
 * @module
 */
import { tensor } from "../mod.ts";
import type { TrainConfig } from "../src/train/config.ts";
import { VOCABULARY } from "../src/train/model.ts";
import type { Batch } from "../src/train/objective.ts";
import { randomSource } from "../tests/support/random.ts";

/** Windows of random bytes: how long a step takes does not depend on what is written. */
export function randomBatch({ batch, seq }: TrainConfig): Batch {
  const random = randomSource(1);
  const bytes = Uint32Array.from({ length: batch * (seq + 1) }, () => random.integer(0, VOCABULARY));
  return { ids: tensor(bytes, { shape: [batch, seq + 1], dtype: "u32" }) };
}
