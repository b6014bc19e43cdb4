/**
 * Running a test on the float64 oracle or on a WebGPU adapter, and what happens where there is no adapter.
 *
 * @module
 */
import { init } from "../../src/gpu/device.ts";
import { oracleRuntime } from "../../src/core/oracle_runtime.ts";
import { currentRuntime, installRuntime, type Runtime } from "../../src/core/runtime.ts";

async function findAdapter(): Promise<boolean> {
  return typeof navigator.gpu === "object" && (await navigator.gpu.requestAdapter()) !== null;
}

const hasAdapter = await findAdapter();
const mustHaveAdapter = Deno.env.get("SWITCHYARD_REQUIRE_GPU") === "1";

/** Whether this machine has a WebGPU adapter. */
export function gpuAvailable(): boolean {
  return hasAdapter;
}

async function withRuntime<T>(runtime: Runtime, run: () => T | Promise<T>): Promise<T> {
  const previous = installRuntime(runtime);
  try {
    return await run();
  } finally {
    installRuntime(previous);
  }
}

/** Runs a function with every tensor computed in float64 on the host, and puts the runtime back that was there. */
export function withOracle<T>(run: () => T | Promise<T>): Promise<T> {
  return withRuntime(oracleRuntime(), run);
}

/** What a developer's machine was calibrated to must not decide which kernels are tested, here or in child processes. */
function useBuiltInKernels(): void {
  Deno.env.set("SWITCHYARD_CALIBRATION", "off");
}

let gpuRuntime: Promise<Runtime> | null = null;

async function startGpu(): Promise<Runtime> {
  useBuiltInKernels();
  const previous = installRuntime(null);
  try {
    await init();
    return currentRuntime("test on the adapter");
  } finally {
    installRuntime(previous);
  }
}

/** Runs a function on the WebGPU adapter, and puts the runtime back that was there. */
export async function withGpu<T>(run: () => T | Promise<T>): Promise<T> {
  gpuRuntime ??= startGpu();
  return await withRuntime(await gpuRuntime, run);
}

/** Registers a test that runs on the oracle. */
export function oracleTest(name: string, run: () => void | Promise<void>): void {
  Deno.test(name, () => withOracle(run));
}

/**
 * Registers a test that runs on the WebGPU adapter. Without one it is ignored, which Deno counts and prints; where
 * SWITCHYARD_REQUIRE_GPU=1 says that there must be one, it fails.
 */
export function gpuTest(name: string, run: () => void | Promise<void>): void {
  useBuiltInKernels();
  Deno.test({
    name: `${name} (gpu)`,
    ignore: !hasAdapter && !mustHaveAdapter,
    // The device lives as long as the process, so its resources outlast every test.
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      if (!hasAdapter) throw new Error("SWITCHYARD_REQUIRE_GPU=1, but no WebGPU adapter was found");
      await withGpu(run);
    },
  });
}
