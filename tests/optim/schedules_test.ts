import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { jit } from "../../src/core/jit.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { scalar } from "../../src/ops/creation.ts";
import {
  constantSchedule,
  cosineSchedule,
  exponentialSchedule,
  inverseSqrtSchedule,
  linearSchedule,
  relativeStepSchedule,
  type Schedule,
} from "../../src/optim/mod.ts";
import { readGolden } from "../support/golden.ts";
import { assertClose } from "../support/tolerance.ts";
import { everywhere } from "./problem.ts";

interface GoldenSchedule {
  readonly name: string;
  // deno-lint-ignore no-explicit-any -- every schedule has its own
  readonly options: any;
  readonly steps: readonly number[];
  readonly values: readonly number[];
}

const { schedules } = await readGolden<{ readonly schedules: readonly GoldenSchedule[] }>("optim.json");

function scheduleOf({ name, options }: GoldenSchedule): Schedule {
  switch (name) {
    case "warmupCosineDecay":
      return cosineSchedule({
        peak: options.peak,
        steps: options.decaySteps,
        warmupSteps: options.warmupSteps,
        finalFraction: options.end / options.peak,
      });
    case "cosineDecay":
      return cosineSchedule({ peak: options.initial, steps: options.decaySteps, finalFraction: options.alpha });
    case "linear":
      return linearSchedule({ from: options.initial, to: options.end, steps: options.steps });
    case "exponentialDecay":
      return exponentialSchedule({ from: options.initial, steps: options.transitionSteps, rate: options.rate });
    default:
      return constantSchedule(options.value);
  }
}

function step(count: number): Tensor {
  return scalar(count, { dtype: "u32" });
}

for (const golden of schedules) {
  everywhere(`${golden.name} has optax's values, compiled once`, async () => {
    const schedule = jit(scheduleOf(golden));
    const found: number[] = [];
    for (const at of golden.steps) found.push(await schedule(step(at)).item());
    assertClose(found, golden.values, { relative: 2e-5, absolute: 2e-9 }, golden.name);
    assertEquals(schedule.traces, 1);
  });
}

everywhere("inverseSqrtSchedule() rises in a line and falls like the root", async () => {
  const schedule = inverseSqrtSchedule({ peak: 0.5, warmupSteps: 10 });
  for (const [at, value] of [[0, 0], [5, 0.25], [10, 0.5], [40, 0.25], [1000, 0.05]] as const) {
    assertAlmostEquals(await schedule(step(at)).item(), value, 1e-6);
  }
});

everywhere("relativeStepSchedule() is capped, counts from one and warms up", async () => {
  assertAlmostEquals(await relativeStepSchedule()(step(0)).item(), 0.01, 1e-8);
  assertAlmostEquals(await relativeStepSchedule()(step(39_999)).item(), 0.005, 1e-7);
  assertAlmostEquals(await relativeStepSchedule({ warmupSteps: 10 })(step(4)).item(), 0.005, 1e-7);
});

Deno.test("cosineSchedule() lists every invalid option", () => {
  const options = { peak: 0, steps: 10, warmupSteps: 10, finalFraction: 0.5, alpha: 1 };
  const error = assertThrows(() => cosineSchedule(options), ConfigError);
  assertEquals(
    error.message,
    `Cannot build cosineSchedule: 3 options are invalid
  peak         0   must be a number above 0
  warmupSteps  10  must be below steps
  alpha        1   unknown option; the options are peak, steps, warmupSteps, finalFraction`,
  );
});
