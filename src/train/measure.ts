/**
 * Measuring a run's model on all of its held-out text, beside simpler models.
 *
 * @module
 */
import { gzipBitsPerByte, orderThreeBitsPerByte } from "./baselines.ts";
import { readSavedConfig } from "./config_file.ts";
import { expectLongEnough, loadCorpus } from "./data.ts";
import { evaluatorOf } from "./evaluate.ts";
import { formatNumber } from "./html.ts";
import { buildModel } from "./model.ts";
import { loadTrained } from "./run_files.ts";

/** What was measured on held-out text; losses in bits per byte. */
export interface Measurement {
  /** Steps of training behind the model. */
  readonly step: number;
  /** Bytes of held-out text. */
  readonly bytes: number;
  /** The model's loss. */
  readonly validationBitsPerByte: number;
  /** What `gzip -9` needs. */
  readonly gzipBitsPerByte: number;
  /** The loss of a model that counts bytes after three bytes, over the same training text. */
  readonly orderThreeBitsPerByte: number;
}

/**
 * Measures the newest checkpoint of a run on all of its held-out text.
 *
 * @param directory The run's folder.
 * @returns The losses.
 * @throws {CheckpointError} If there is no whole checkpoint.
 * @throws {DataError} If the run's text is gone.
 */
export async function measureRun(directory: string): Promise<Measurement> {
  const config = await readSavedConfig(directory);
  const model = buildModel(config, "checkpoint");
  const { params, step } = await loadTrained(directory, model);
  const { train, heldOut, ...corpus } = await loadCorpus(config.data);
  expectLongEnough({ train, heldOut, ...corpus }, config.seq);
  const evaluate = evaluatorOf(model)(heldOut, { ...config, maxBatches: Infinity });
  return {
    step,
    bytes: heldOut.length,
    validationBitsPerByte: await evaluate(params),
    gzipBitsPerByte: gzipBitsPerByte(heldOut),
    orderThreeBitsPerByte: orderThreeBitsPerByte(train, heldOut),
  };
}

/**
 * Puts a measurement into lines of text.
 *
 * @param measurement The measurement.
 * @returns The lines.
 */
export function describeMeasurement(measurement: Measurement): readonly string[] {
  const { step, bytes, validationBitsPerByte, gzipBitsPerByte, orderThreeBitsPerByte } = measurement;
  return [
    `Bits per byte on ${formatNumber(bytes)} bytes of held-out text`,
    `  this model     ${formatNumber(validationBitsPerByte, 3)}  after ${formatNumber(step)} steps`,
    `  order-3 bytes  ${formatNumber(orderThreeBitsPerByte, 3)}`,
    `  gzip -9        ${formatNumber(gzipBitsPerByte, 3)}`,
  ];
}
