import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/core/errors.ts";
import { nearestName } from "../../src/core/suggest.ts";
import { belowOne, count, expectOptions, oneOf, positive, positiveCount } from "../../src/ops/options.ts";

const SHAPE = {
  size: positiveCount,
  steps: count.optional(),
  rate: positive.optional(),
  decay: belowOne.optional(),
  mode: oneOf("fast", "exact").optional(),
};

function messageOf(options: unknown): string {
  return assertThrows(() => expectOptions("sample", SHAPE, options), ConfigError).message;
}

Deno.test("expectOptions() accepts what fits, with optional ones left out or undefined", () => {
  expectOptions("sample", SHAPE, { size: 1 });
  expectOptions("sample", SHAPE, { size: 3, steps: 0, rate: 0.5, decay: 0, mode: "exact" });
  expectOptions("sample", SHAPE, { size: 1, rate: undefined });
});

Deno.test("expectOptions() lists invalid, missing and unknown options at once", () => {
  assertEquals(
    messageOf({ steps: -1, rate: Infinity, decay: 1, mode: "exat", moed: 2, other: null }),
    `Cannot build sample: 7 options are invalid
  size   undefined  must be a whole number from 1 up
  steps  -1         must be a whole number from 0 up
  rate   Infinity   must be a number above 0
  decay  1          must be a number from 0 up, below 1
  mode   "exat"     must be one of fast, exact; did you mean exact?
  moed   2          unknown option; did you mean mode?
  other  null       unknown option; the options are size, steps, rate, decay, mode`,
  );
});

Deno.test("expectOptions() looks at options together once each is valid by itself", () => {
  const together = () => [["steps", 1, "must be at least size"] as const];
  const check = (options: unknown) => () => expectOptions("sample", SHAPE, options, together);
  assertThrows(check({ size: 2, steps: 1 }), ConfigError, "steps  1  must be at least size");
  const error = assertThrows(check({ size: 0, steps: 1 }), ConfigError);
  assertEquals(error.message.includes("at least size"), false);
});

Deno.test("nearestName() prefers the long form of a name, then few edits, and gives up on strangers", () => {
  const names = ["minCapacity", "capacityFactor", "experts"];
  assertEquals(nearestName("capacity", names), "capacityFactor");
  assertEquals(nearestName("minCapcity", names), "minCapacity");
  assertEquals(nearestName("EXPERT", names), "experts");
  assertEquals(nearestName("width", names), undefined);
});
