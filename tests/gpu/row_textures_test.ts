/**
 * Row kernels of software adapters that read their operands through textures: the same bits as from buffers, and what the
 * oracle says, whatever the length of a row and however it lies in the lines of a texture.
 *
 * @module
 */
import { assert, assertEquals, assertNotMatch } from "@std/assert";
import { grad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { linearTexture } from "../../src/gpu/row_textures.ts";
import { add, flip, layerNorm, max, mean, mul, softmax, sub, sum, tensor, transpose } from "../../src/ops/mod.ts";
import { gpuTest, withOracle } from "../support/runtimes.ts";
import { assertClose, toleranceFor } from "../support/tolerance.ts";
import { withAdapterClass } from "../support/variants.ts";
import { programProblems } from "./support/program_checks.ts";
import { compile, f32, HARDWARE } from "./support/compile.ts";

/** Numbers that repeat with a period no row shares. */
function sample(shape: readonly number[], step: number, middle = 0): Tensor {
  const size = shape.reduce((a, b) => a * b);
  return tensor(Float32Array.from({ length: size }, (_, i) => middle + ((i * step) % 101) / 25 - 2), { shape });
}

interface Operands {
  /** [rows, inner]. */
  readonly x: Tensor;
  /** [rows, inner]. */
  readonly cotangent: Tensor;
  /** [inner]. */
  readonly scale: Tensor;
  /** [inner]. */
  readonly bias: Tensor;
}

function operands(rows: number, inner: number): Operands {
  return {
    x: sample([rows, inner], 37),
    cotangent: sample([rows, inner], 41),
    scale: sample([inner], 43),
    bias: sample([inner], 47),
  };
}

/** Rows read once and several times, one operand and two, also backwards. */
function kernels({ x, cotangent, scale, bias }: Operands) {
  const last = { axis: -1, keepDims: true } as const;
  const whole = add(x, cotangent);
  return {
    soft: softmax(x),
    normed: layerNorm(x, { scale, bias }),
    normGradient: grad((x: Tensor) => sum(mul(layerNorm(x, { scale, bias }), cotangent)))(x),
    sums: sum(x, { axis: -1 }),
    reversed: sub(flip(x, { axis: 1 }), mean(mul(x, scale), last)),
    both: sub(whole, max(whole, last)),
  };
}

/** However small. */
const ALWAYS = { tuning: { rowTextureElements: 0 } } as const;
const compiled = jit(kernels, { maxTraces: 64 });

/** A row a line and rows across lines, one line only, a last line of one texel, odd rows, few, and long ones. */
const SHAPES = [
  [40, 128],
  [37, 192],
  [34, 512],
  [33, 509],
  [65, 67],
  [8, 512],
  [1, 512],
  [34, 2050],
  [32, 4096],
  [1, 16_388],
] as const;

gpuTest("rows read through textures are what the oracle says, with the bits of rows read from buffers", async () => {
  for (const [rows, inner] of SHAPES) {
    const make = () => read(compiled(operands(rows, inner)));
    const found = await withAdapterClass("software with textures", make, ALWAYS);
    const again = await withAdapterClass("software with textures", make, ALWAYS);
    const plain = await withAdapterClass("software", make);
    const expected = await withOracle(() => read(kernels(operands(rows, inner))));
    for (const name of Object.keys(expected) as (keyof typeof expected)[]) {
      const label = `${name} of ${rows} x ${inner}`;
      assertClose(found[name], expected[name], toleranceFor("f32", inner), label);
      assertEquals(again[name], found[name], label);
      assertEquals(found[name], plain[name], label);
    }
  }
});

gpuTest("rows far from 0 keep their variance, and NaN and infinities stay in their row", async () => {
  for (const [rows, inner] of [[34, 512], [35, 509], [33, 1028]] as const) {
    const far = () => read({ normed: layerNorm(sample([rows, inner], 37, 4096)) });
    const wild = () => {
      const x = Float32Array.from({ length: rows * inner }, (_, i) => (i % 31) / 8);
      x[3 * inner] = NaN;
      x[5 * inner - 1] = NaN;
      x.fill(-Infinity, 7 * inner, 8 * inner);
      x[12 * inner + 1] = Infinity;
      const operand = tensor(x, { shape: [rows, inner] });
      return read({ soft: softmax(operand), most: max(operand, { axis: -1 }) });
    };
    const found = await withAdapterClass("software with textures", async () => [await far(), await wild()], ALWAYS);
    const expected = await withOracle(async () => [await far(), await wild()]);
    const [{ normed }, { soft, most }] = found as [Awaited<ReturnType<typeof far>>, Awaited<ReturnType<typeof wild>>];
    const [near, rules] = expected as typeof found as [
      Awaited<ReturnType<typeof far>>,
      Awaited<ReturnType<typeof wild>>,
    ];
    // The mean itself is rounded to 2^-11 of a standard deviation here.
    assertClose(normed, near.normed, { relative: 1e-3, absolute: 1e-3 }, `layer norm of ${rows} x ${inner}`);
    assertClose(soft, rules.soft, toleranceFor("f32", inner), `softmax of ${rows} x ${inner}`);
    assertClose(most, rules.most, toleranceFor("f32", inner), `maximum of ${rows} x ${inner}`);
  }
});

Deno.test("every element lies where kernels look for it, and no side is a power of two", () => {
  for (const [rows, inner] of [...SHAPES, [2048, 512], [2045, 509], [16_384, 1024], [3, 1], [1024, 4]] as const) {
    const elements = rows * inner;
    const texture = linearTexture(elements, inner, 16_384);
    assert(texture !== null, `${rows} x ${inner} fits`);
    const { line, width, height, regions } = texture;
    for (const side of [width, height]) assert((side & (side - 1)) !== 0, `side ${side} of ${rows} x ${inner}`);
    let next = 0;
    for (const { start, x, y = 0, width: columns, height: lines } of regions) {
      // What follows one another in the buffer follows in the texture, and every copy but of one line has whole lines.
      assertEquals([start, x, y], [next, 0, line === Infinity ? 0 : next / 4 / line]);
      assert(lines === 1 || (columns === line && columns % 16 === 0), `lines of ${rows} x ${inner}`);
      assert(columns <= width && y + lines <= height, `copies inside the texture of ${rows} x ${inner}`);
      next += columns * lines * 4;
    }
    assertEquals(next, Math.ceil(elements / 4) * 4);
  }
  assertEquals(linearTexture(2 ** 20, 512, 1024), null);
});

Deno.test("rows go to textures where that pays", () => {
  const norm = (x: Tensor, scale: Tensor) => layerNorm(x, { scale });
  const copies = (rows: number, inner: number, options = {}) =>
    (compile(norm as never, [f32(rows, inner), f32(inner)], options).toString().match(/rows to texture/g) ?? []).length;
  // Both operands: the rows, and what all rows are scaled by.
  assertEquals(copies(2048, 512), 2);
  // A row that is no multiple of four has no texels to scale by.
  assertEquals(copies(2045, 509), 1);
  assertEquals([copies(128, 512), copies(16_384, 512), copies(2048, 512, { adapter: HARDWARE })], [0, 0, 0]);
  // Long rows are loaded once for each pass, so that a copy pays for longer.
  assertEquals(copies(8192, 1024), 2);
});

Deno.test("only what a kernel reads by fours is copied, and each kernel gives its textures back", () => {
  const transposed = compile((x) => softmax(transpose(x!)), [f32(512, 1024)]);
  assertNotMatch(transposed.toString(), /rows to texture/);
  const twice = compile((x) => ({ a: softmax(softmax(x!)), b: layerNorm(x!) }), [f32(1024, 512)]);
  assertEquals(programProblems(twice, 32), []);
  assertEquals(twice.dispatches.filter(({ copy }) => copy !== undefined).length, 2);
  assertEquals(twice.textures.slots.length, 1);
});
