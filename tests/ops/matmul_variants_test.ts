import { compile, f32, HARDWARE, SOFTWARE } from "../gpu/support/compile.ts";
import { assert, assertEquals, assertNotMatch, assertStringIncludes } from "@std/assert";
import { jit } from "../../src/core/jit.ts";
import { read } from "../../src/core/realize.ts";
import { type Shape, sizeOf } from "../../src/core/shape.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vjp } from "../../src/core/vjp.ts";
import { tensor } from "../../src/ops/creation.ts";
import { cast, gelu, matmul, type MatmulOptions, mul } from "../../src/ops/mod.ts";
import { lanesOf, SHARED_TILES, slabBytes } from "../../src/ops/shared_tile.ts";
import { textureMatrix } from "../../src/ops/texture_matrix.ts";
import { assertClose, gpuTest, withOracle } from "../support/check_primitive.ts";
import { type AdapterDeviation, TEXTURE_CLASSES, withAdapterClass } from "../support/variants.ts";
import { uniformTensor } from "../support/draw.ts";

const F32 = { relative: 3e-5, absolute: 3e-5 };

/** Sizes M, K, N: single elements, not multiples of four, of a tile, and whole tiles. */
const SIZES = [[1, 1, 1], [3, 5, 2], [17, 33, 9], [64, 32, 128], [37, 130, 65], [130, 7, 260]] as const;

const LAYOUTS: readonly MatmulOptions[] = [
  {},
  { transposeA: true },
  { transposeB: true },
  { transposeA: true, transposeB: true },
];

interface Case {
  readonly sizes: readonly [m: number, k: number, n: number];
  readonly options: MatmulOptions;
  /** Leading axes of the operands. */
  readonly batches: readonly [a: Shape, b: Shape];
}

/** Product and both gradients, with something to fuse in front and behind. */
async function productAndGradients({ sizes: [m, k, n], options, batches: [batchA, batchB] }: Case) {
  const { transposeA = false, transposeB = false } = options;
  const a = uniformTensor([...batchA, ...(transposeA ? [k, m] : [m, k])], 1);
  const b = uniformTensor([...batchB, ...(transposeB ? [n, k] : [k, n])], 2);
  const [product, pull] = vjp((x: Tensor, y: Tensor) => gelu(matmul(x, mul(y, 0.5), options)), a, b);
  const [da, db] = pull(uniformTensor(product.shape, 3));
  return await read({ product, da, db });
}

async function expectLikeOracle(
  one: Case,
  adapterClass: (typeof TEXTURE_CLASSES)[number],
  deviation?: AdapterDeviation,
) {
  const expected = await withOracle(() => productAndGradients(one));
  const found = await withAdapterClass(adapterClass, () => productAndGradients(one), deviation);
  for (const name of ["product", "da", "db"] as const) {
    assertClose(found[name], expected[name], F32, `${name} of ${JSON.stringify(one)}`);
  }
}

for (const adapterClass of TEXTURE_CLASSES) {
  gpuTest(`matmul() has right ${adapterClass} kernels for odd sizes and all layouts`, async () => {
    for (const [turn, sizes] of SIZES.entries()) {
      for (const [layout, options] of LAYOUTS.entries()) {
        const batches = ([[[], []], [[3], [3]], [[3], []], [[], [2]]] as const)[(turn + layout) % 4]!;
        await expectLikeOracle({ sizes, options, batches }, adapterClass);
      }
    }
  });
}

gpuTest("matmul() has right hardware kernels where the depth is split", async () => {
  // Four parts for few rows and for more; a depth that is no multiple of four, and one whose last part is shorter.
  for (const sizes of [[5, 1101, 70], [40, 1100, 36]] as const) {
    await expectLikeOracle({ sizes, options: {}, batches: [[], []] }, "hardware");
    await expectLikeOracle({ sizes, options: { transposeA: true, transposeB: true }, batches: [[2], []] }, "hardware");
  }
});

gpuTest("matmul() with textures goes on in a second stripe where an operand is too long for one", async () => {
  // 300 rows are three stripes of 128 lines; five matrices of 40 rows are two stripes of three matrices.
  for (const options of LAYOUTS) {
    await expectLikeOracle({ sizes: [300, 70, 20], options, batches: [[], []] }, "software with textures", {
      textureSide: 129,
    });
    await expectLikeOracle({ sizes: [30, 300, 20], options, batches: [[], []] }, "software with textures", {
      textureSide: 129,
    });
    await expectLikeOracle({ sizes: [40, 10, 37], options, batches: [[5], [5]] }, "software with textures", {
      textureSide: 129,
    });
  }
});

gpuTest("matmul() with textures splits an inner dimension longer than an invocation may loop", async () => {
  const inner = 70001;
  const one: Case = { sizes: [3, inner, 2], options: {}, batches: [[], []] };
  const values = (shape: Shape) =>
    tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => (i % 7) - 3), { shape });
  const product = () => matmul(values([one.sizes[0], inner]), values([inner, one.sizes[2]])).data();
  const expected = await withOracle(product);
  assertClose(await withAdapterClass("software with textures", product), expected, F32, "product");
});

gpuTest("matmul() with textures rounds half precision like the kernels that read buffers", async () => {
  const product = () =>
    cast(matmul(cast(uniformTensor([20, 36], 1), "bf16"), cast(uniformTensor([36, 24], 2), "bf16")), "f32").data();
  const expected = await withAdapterClass("software", product);
  assertEquals(await withAdapterClass("software with textures", product), expected);
});

gpuTest("matmul() with textures repeats bit for bit, and like the kernels that read buffers", async () => {
  const run = () =>
    jit((a: Tensor, b: Tensor) => matmul(a, b))(uniformTensor([70, 64], 1), uniformTensor([64, 52], 2)).data();
  const expected = await withAdapterClass("software", run);
  for (let turn = 0; turn < 3; turn++) {
    assertEquals(await withAdapterClass("software with textures", run), expected);
  }
});

Deno.test("large products copy each operand to a texture once, also for their gradients", () => {
  const program = compile((x: Tensor, w: Tensor) => {
    const [product, pull] = vjp((a: Tensor, b: Tensor) => matmul(a, b), x, w);
    return [product, ...pull(mul(product, product))];
  }, [f32(256, 128), f32(128, 512)]).toString();
  // x, w and the cotangent, for three products that read two of them each.
  assertEquals(program.match(/ to texture /g)?.length, 3);
  assertStringIncludes(program, "to texture 256x128");
  assertEquals(program.match(/ matmul /g)?.length, 3);
});

Deno.test("small products and adapters without readable textures read buffers", () => {
  const product = (a: Tensor, b: Tensor) => matmul(a, b);
  const small = compile(product, [f32(32, 32), f32(32, 32)]).toString();
  assertNotMatch(small, /texture/);
  const adapter = { ...SOFTWARE, textureSide: 0 };
  assertNotMatch(compile(product, [f32(512, 512), f32(512, 512)], { adapter }).toString(), /texture/);
  assertStringIncludes(compile(product, [f32(512, 512), f32(512, 512)]).toString(), "to texture 512x512");
});

Deno.test("tuning decides from which size on products use textures, and with which tile", () => {
  const product = (a: Tensor, b: Tensor) => matmul(a, b);
  const args = [f32(64, 64), f32(64, 64)];
  const tuned = (textureWork: number, rows: number) =>
    compile(product, args, {
      adapter: { ...SOFTWARE, tuning: { textureWork, textureTiles: { small: { rows, columns: 1, lanesN: 8 } } } },
    });
  assertNotMatch(tuned(Infinity, 8).toString(), /texture/);
  const [four, eight] = [tuned(0, 4), tuned(0, 8)].map(({ dispatches }) => dispatches.at(-1)!);
  assertEquals(four!.workgroups[0], 2 * eight!.workgroups[0]);
});

Deno.test("a GPU gets the largest tiles of which there are enough, and splits the depth where there are few", () => {
  const gridOf = (m: number, k: number, n: number) =>
    compile((a: Tensor, b: Tensor) => matmul(a, b), [f32(m, k), f32(k, n)], { adapter: HARDWARE })
      .dispatches[0]!.workgroups;
  assertEquals(gridOf(4096, 4096, 4096), [32, 32, 1]); // 128 x 128
  assertEquals(gridOf(1024, 1024, 1024), [8, 16, 1]); // 64 x 128
  assertEquals(gridOf(512, 512, 512), [8, 8, 2]); // 64 x 64, two parts
  assertEquals(gridOf(128, 128, 128), [2, 4, 1]); // 32 x 64
  assertEquals(gridOf(1, 4096, 4096), [64, 1, 8]); // 16 x 64, eight parts
});

Deno.test("tiles of a GPU fit the workgroup memory and the invocations that every adapter has", () => {
  for (const [name, size] of Object.entries(SHARED_TILES)) {
    assert(slabBytes(size) <= 16_384, name);
    assert(lanesOf(size) <= 256, name);
  }
});

Deno.test("textureMatrix() keeps to the largest side and refuses what does not fit", () => {
  const shapes = [[1, 1000, 7], [1, 20000, 512], [6, 500, 33], [1, 4, 40000], [4096, 4, 4], [3, 20000, 4]] as const;
  for (const side of [129, 2048, 16384]) {
    for (const [batch, rows, columns] of shapes) {
      const matrix = textureMatrix({ batch, rows, columns }, side);
      if (matrix === null) continue;
      assert(matrix.stripe * matrix.stripes < side && matrix.height < side, "sides");
      assert(matrix.height * matrix.stripes >= batch * matrix.lines, "room for all lines");
      assert(matrix.stripes === 1 || (batch === 1 ? matrix.height % 128 : matrix.height % matrix.lines) === 0, "seams");
    }
  }
  assertEquals(textureMatrix({ batch: 1, rows: 1, columns: 2 ** 20 }, 16384), null);
  assertEquals(textureMatrix({ batch: 2, rows: 20000, columns: 4 }, 16384), null);
});
