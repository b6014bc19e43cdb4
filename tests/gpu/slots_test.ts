import { assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { isFloat } from "../../src/core/dtype.ts";
import { valueAndGrad } from "../../src/core/grad.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import type { Program } from "../../src/gpu/program.ts";
import { planSlots } from "../../src/gpu/slots.ts";
import { causalAttention, full, gelu, layerNorm, matmul, mul, square, sub, sum } from "../../src/ops/mod.ts";
import { compile, f32, HARDWARE, SOFTWARE } from "./support/compile.ts";
import { lifetimes, programProblems } from "./support/program_checks.ts";
import { describeProgram, interpret, type RandomProgram, randomPrograms } from "./support/random_program.ts";

const RUNS = Number(Deno.env.get("SWITCHYARD_FUZZ_RUNS") ?? 300);

/** Outputs and gradients of a random program. */
function outputsAndGradients(program: RandomProgram): (...args: Tensor[]) => readonly Tensor[] {
  return (...args) => {
    const [outputs, pull] = vjp((...own: Tensor[]) => interpret(program, own), ...args);
    const gradients = pull(outputs.map(({ shape, dtype }) => full(shape, 1, { dtype })));
    return [...outputs, ...gradients.filter(({ dtype }) => isFloat(dtype))];
  };
}

for (const maxBuffers of [8, 32]) {
  Deno.test(`programs with ${maxBuffers} buffers a kernel keep live values apart and read only what is written`, () => {
    fc.assert(
      fc.property(randomPrograms, fc.boolean(), (program, isSoftware) => {
        // Nothing writes a value without elements, and nothing of it is read.
        fc.pre(!/\[(\d+, )*0(, \d+)*\]$/m.test(describeProgram(program)));
        const adapter = { ...isSoftware ? SOFTWARE : HARDWARE, storageBuffers: maxBuffers };
        for (const f of [(...args: Tensor[]) => interpret(program, args), outputsAndGradients(program)]) {
          const donate = program.inputs.map((_, i) => i);
          const problems = programProblems(compile(f, program.inputs, { adapter, maxBuffers, donate }), maxBuffers);
          if (problems.length > 0) throw new Error(`${problems.join("\n")}\nin\n${describeProgram(program)}`);
        }
      }),
      { numRuns: RUNS },
    );
  });
}

Deno.test("planSlots() never lets two live values share a slot", () => {
  const usage = fc.array(fc.record({ first: fc.nat(30), length: fc.nat(12), bytes: fc.integer({ min: 1, max: 64 }) }), {
    minLength: 1,
    maxLength: 40,
  });
  fc.assert(fc.property(usage, (values) => {
    const end = Math.max(...values.map(({ first, length }) => first + length)) + 1;
    const dispatches = Array.from({ length: end }, (_, time) => ({
      label: `${time}`,
      wgsl: "",
      workgroups: [1, 1, 1] as const,
      bindings: values.flatMap(({ first, length }, i) =>
        time === first || time === first + length
          ? [{ buffer: `%${i}`, access: time === first ? "read_write" as const : "read" as const }]
          : []
      ),
    }));
    const sizes = new Map(values.map(({ bytes }, i) => [`%${i}`, bytes * 16]));
    const { slots, slotOf } = planSlots(dispatches, sizes);
    values.forEach((a, i) => {
      const slot = slotOf.get(`%${i}`)!;
      assertEquals(slots[slot]!.bytes >= a.bytes * 16, true, "a slot holds its values");
      values.slice(i + 1).forEach((b, k) => {
        if (slotOf.get(`%${i + 1 + k}`) !== slot) return;
        const apart = a.first + a.length < b.first || b.first + b.length < a.first;
        assertEquals(apart, true, `%${i} and %${i + 1 + k} overlap in slot ${slot}`);
      });
    });
  }));
});

Deno.test("planSlots() lets values of different sizes share a slot of the largest, one after the other", () => {
  const lives: Readonly<Record<string, readonly [first: number, last: number, bytes: number]>> = {
    small: [0, 1, 64],
    large: [2, 3, 4096],
    middle: [4, 5, 1024],
    beside: [4, 5, 512],
  };
  const dispatches = Array.from({ length: 6 }, (_, time) => ({
    label: `${time}`,
    wgsl: "",
    workgroups: [1, 1, 1] as const,
    bindings: Object.entries(lives).filter(([, [first, last]]) => time === first || time === last)
      .map(([buffer]) => ({ buffer, access: "read_write" as const })),
  }));
  const { slots } = planSlots(dispatches, new Map(Object.entries(lives).map(([name, [, , bytes]]) => [name, bytes])));
  assertEquals(slots.map(({ bytes }) => bytes), [4096, 512]);
});

/** Bytes alive at the busiest dispatch: what no plan can go below. */
function peakLiveBytes(program: Program): number {
  const alive = [...lifetimes(program)];
  const bytesOf = (buffer: string) => program.sizes.get(buffer)!;
  const peaks = program.dispatches.map((_, time) =>
    alive.reduce(
      (total, [buffer, { first, last }]) => first <= time && time <= last ? total + bytesOf(buffer) : total,
      0,
    )
  );
  return Math.max(0, ...peaks);
}

/** A step of a small transformer block without biases: attention and feed-forward, their gradients, and SGD. */
function transformerStep(x: Tensor, up: Tensor, down: Tensor, query: Tensor, key: Tensor): readonly Tensor[] {
  const { value, grads } = valueAndGrad((params: readonly Tensor[]) => {
    const [up, down, query, key] = params as [Tensor, Tensor, Tensor, Tensor];
    let hidden = x;
    for (let layer = 0; layer < 3; layer++) {
      const normed = layerNorm(hidden);
      const attended = causalAttention(matmul(normed, query), matmul(normed, key), normed);
      const widened = gelu(matmul(layerNorm(attended), up));
      hidden = matmul(widened, down);
    }
    return sum(square(hidden));
  })([up, down, query, key]);
  return [value, ...[up, down, query, key].map((param, i) => sub(param, mul(grads[i]!, 0.1)))];
}

Deno.test("scratch of real programs stays within 1.1 of the bytes that are alive at once", () => {
  const block = [f32(2, 4, 32, 64), f32(64, 256), f32(256, 64), f32(64, 64), f32(64, 64)];
  for (const adapter of [SOFTWARE, HARDWARE]) {
    const program = compile(transformerStep, block, { adapter, donate: [1, 2, 3, 4] });
    assertEquals(programProblems(program, 32), []);
    const bound = peakLiveBytes(program);
    const planned = program.slots.reduce((total, { bytes }) => total + bytes, 0);
    assertEquals(planned <= 1.1 * bound, true, `${adapter.name}: ${planned} bytes in slots, ${bound} alive at once`);
  }
});
