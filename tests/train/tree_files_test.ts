import { assertEquals, assertRejects } from "@std/assert";
import { CheckpointError, key, read, tensor } from "../../mod.ts";
import { decodeSafetensors } from "../../src/train/safetensors.ts";
import { decodeTree, encodeTrees } from "../../src/train/tree_files.ts";
import { oracleTest } from "../support/runtimes.ts";

const TREE = {
  blocks: [{
    weight: tensor([[1.5, -0, 3e-45], [Infinity, NaN, 1 / 3]]),
    table: tensor([7, 0xffffffff], { dtype: "u32" }),
  }],
  half: tensor([0.1, 65504, -2], { dtype: "f16" }),
  short: tensor([1 / 3, -256, 3e38], { dtype: "bf16" }),
  offset: tensor([-5], { dtype: "i32" }),
  mask: tensor([true, false, true]),
  scale: tensor(2),
  key: key(9),
};

oracleTest("encodeTrees() and decodeTree() keep every bit of every type", async () => {
  const files = await encodeTrees({ model: TREE }, { step: "3" });
  assertEquals([...files.keys()], ["model.safetensors"]);
  const bytes = files.get("model.safetensors")!;
  const back = decodeTree(bytes, { like: TREE, name: "model.safetensors" });
  const { weight: expected, table } = (await read(TREE)).blocks[0]!;
  const { blocks: [block], ...rest } = await read(back);
  // Float64 of the oracle becomes f32 in the file.
  assertEquals([...block!.weight], [...Float32Array.from(expected)]);
  assertEquals([...block!.table], [...table]);
  assertEquals([[...rest.half], [...rest.offset], [...rest.mask]], [[Math.f16round(0.1), 65504, -2], [-5], [1, 0, 1]]);
  assertEquals((await encodeTrees({ model: back }, { step: "3" })).get("model.safetensors"), bytes);
});

oracleTest("encodeTrees() names arrays as other programs do", async () => {
  const { arrays, metadata } = decodeSafetensors(
    (await encodeTrees({ model: TREE }, { step: "3" })).get("model.safetensors")!,
  );
  const shown = [...arrays].map(([name, { dtype, shape }]) => `${name} ${dtype}[${shape}]`).sort();
  assertEquals(shown, [
    "blocks.0.table U32[2]",
    "blocks.0.weight F32[2,3]",
    "half F16[3]",
    "key U32[2]",
    "mask BOOL[3]",
    "offset I32[1]",
    "scale F32[]",
    "short BF16[3]",
  ]);
  assertEquals(metadata, { step: "3" });
});

oracleTest("decodeTree() tells every array that does not fit", async () => {
  const bytes = (await encodeTrees({ model: TREE })).get("model.safetensors")!;
  const { scale: _, ...like } = { ...TREE, half: tensor([1, 2, 3]), mask: tensor([true]), extra: tensor(0) };
  const error = await assertRejects(
    () => Promise.resolve().then(() => decodeTree(bytes, { like, name: "model.safetensors" })),
    CheckpointError,
  );
  assertEquals(
    error.message,
    "Cannot load model.safetensors: 4 of its arrays do not fit the model\n" +
      "  half   F16[3], the model has F32[3]\n" +
      "  mask   BOOL[3], the model has BOOL[1]\n" +
      "  extra  missing, the model has F32[]\n" +
      "  scale  F32[], the model has no such array\n" +
      "Fix: use the config.json that was written with the file",
  );
});
