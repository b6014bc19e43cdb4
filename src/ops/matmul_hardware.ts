/**
 * Batched matrix product for hardware adapters: 256 lanes own a tile of 64 columns and 32, 64 or 128 rows; 16-deep slabs of
 * both operands in 6.3, 8.3 or 12.4 KiB of workgroup memory. Edge tiles read clamped (valid) rows and columns and mask the store.
 *
 * @module
 */
import { ceilDiv, type KernelText, times } from "./kernel_text.ts";
import { header, type MatmulOptions, type MatmulShape, OPERANDS } from "./matmul_shape.ts";
import { SHARED_COLUMNS, sharedTile, sharedTileMemory } from "./tile.ts";

/** Generates one batched product with tiles in workgroup memory. */
export function hardwareMatmul(shape: MatmulShape, options: MatmulOptions): KernelText {
  const { m, n, k, layoutA, layoutB } = shape;
  const { sharedRows: rowsEach = 4 } = options;
  const rows = 16 * rowsEach;
  const { text, workgroups } = header(
    shape,
    options.splits ?? 1,
    ceilDiv(m, rows),
    ceilDiv(n, SHARED_COLUMNS),
    "columns",
    16,
  );
  const row = (i: string): string => m % rows === 0 ? `(m0 + ${i})` : `min(m0 + ${i}, ${m - 1}u)`;
  const column = (j: string): string => n % SHARED_COLUMNS === 0 ? `(n0 + ${j})` : `min(n0 + ${j}, ${n - 1}u)`;
  let body = `${text}let m0 = tm * ${rows}u;\nlet n0 = tn * ${SHARED_COLUMNS}u;\n`;
  body += sharedTile({
    name: "c",
    rowsEach,
    start: "first",
    end: "last",
    a: (i, at) => layoutA === "N" ? `ld0(a0 + ${row(i)} * ${k}u + ${at})` : `ld0(a0 + ${at} * ${m}u + ${row(i)})`,
    b: (at, j) => layoutB === "N" ? `ld1(b0 + ${at} * ${n}u + ${column(j)})` : `ld1(b0 + ${column(j)} * ${k}u + ${at})`,
    aAlong: layoutA === "N" ? "depth" : "tile",
    bAlong: layoutB === "N" ? "tile" : "depth",
  });
  body += `let r0 = m0 + (lane / 16u) * ${rowsEach}u;\nlet j0 = n0 + (lane % 16u) * 4u;\n`;
  body += times(rowsEach, (r) => {
    const at = `c0 + (r0 + ${r}u) * ${n}u + j0`;
    const stores = n % 4 === 0
      ? `if (j0 < ${n}u) { st0v(${at}, c_${r}); }\n`
      : ["x", "y", "z", "w"].map((part, j) => `if (j0 + ${j}u < ${n}u) { st0(${at} + ${j}u, c_${r}.${part}); }\n`).join(
        "",
      );
    return `if (r0 + ${r}u < ${m}u) {\n${stores}}\n`;
  });
  return { ...OPERANDS, preludes: sharedTileMemory(rowsEach), body, workgroupSize: [256, 1, 1], workgroups };
}
