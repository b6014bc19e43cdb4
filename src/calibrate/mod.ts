/**
 * Choosing kernels by measuring them on the machine they run on.
 *
 * @module
 */
export {
  calibrate,
  type CalibrateOptions,
  type CalibrationDecision,
  type CalibrationResult,
  type CalibrationTrial,
  formatDecision,
} from "./calibrate.ts";
