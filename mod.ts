/**
 * Switchyard: purely functional tensors, automatic differentiation and sparse models on WebGPU.
 *
 * A tensor is an immutable, lazily computed value; `grad`, `vjp`, `jvp`, `vmap` and `jit` are functions of functions;
 * a router is a pure function from parameters and tokens to a dispatch plan, and one fused op executes any plan.
 *
 * @module
 */
export { type DType, type HostData } from "./src/core/dtype.ts";
export { type Aval, type Shape } from "./src/core/shape.ts";
export { Tensor } from "./src/core/tensor.ts";
export { Key } from "./src/core/key.ts";
export {
  AdapterError,
  CheckpointError,
  CompileError,
  ConfigError,
  DataError,
  DeviceLostError,
  DonatedError,
  DTypeError,
  type ErrorLines,
  expectNoProblems,
  KeyReuseError,
  NonFiniteError,
  notice,
  type OptionProblem,
  OutOfMemoryError,
  ReleasedError,
  ShapeError,
  SwitchyardError,
  TraceError,
  TreeError,
} from "./src/core/errors.ts";
export { nearestName } from "./src/core/suggest.ts";
export { leavesOf, type MapLeaves, mapTree, mapTrees } from "./src/core/tree.ts";
export { type InAxes, vmap } from "./src/core/vmap.ts";
export {
  grad,
  type GradOptions,
  hessian,
  jacobian,
  stopGradient,
  type ValueAndGrad,
  valueAndGrad,
} from "./src/core/grad.ts";
export { jvp } from "./src/core/jvp.ts";
export { type ValueAndPullback, vjp } from "./src/core/vjp.ts";
export { checkpoint, customVjp } from "./src/core/custom.ts";
export { jit, type JitOptions, type Jitted } from "./src/core/jit.ts";
export { own, read, realizeTree as realize } from "./src/core/realize.ts";
export { type MemoryPlan, type MemoryReport } from "./src/core/runtime.ts";
export { type CalibrationSource, type DeviceInfo, init, type InitOptions, memory, settle } from "./src/gpu/device.ts";
export { type KernelTime, type Profile, profile, type ProfileOptions } from "./src/gpu/profile.ts";
export type { ProfileClock } from "./src/gpu/dispatch_timer.ts";
export {
  calibrate,
  type CalibrateOptions,
  type CalibrationDecision,
  type CalibrationResult,
  type CalibrationTrial,
} from "./src/calibrate/mod.ts";
export * from "./src/ops/mod.ts";
export * from "./src/routing/mod.ts";
export * from "./src/layers/mod.ts";
export * from "./src/optim/mod.ts";
