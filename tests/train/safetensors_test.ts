import { assertEquals, assertThrows } from "@std/assert";
import { CheckpointError } from "../../src/core/errors.ts";
import { decodeSafetensors, encodeSafetensors, type NamedArray } from "../../src/train/safetensors.ts";

/** Written by the Python package safetensors 0.8.0 with numpy. */
const REFERENCE = new URL("./golden/reference.safetensors", import.meta.url);

/** A file with the given header text and data. */
function fileOf(header: string, data: readonly number[] = []): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function messageOf(bytes: Uint8Array): string {
  return assertThrows(() => decodeSafetensors(bytes, { name: "model.safetensors" }), CheckpointError).message;
}

function u8(...data: number[]): NamedArray {
  return { dtype: "U8", shape: [data.length], data: new Uint8Array(data) };
}

function float32s({ data }: NamedArray): number[] {
  return [...new Float32Array(data.buffer, data.byteOffset, data.length / 4)];
}

Deno.test("decodeSafetensors() reads what the reference implementation wrote", async () => {
  const { arrays, metadata } = decodeSafetensors(await Deno.readFile(REFERENCE));
  assertEquals(metadata, { format: "np", "made by": 'safetensors "0.8.0"' });
  const kinds = [...arrays].map(([name, { dtype, shape }]) => `${name} ${dtype}[${shape}]`).sort();
  assertEquals(kinds, [
    "counts U32[2]",
    "empty F32[0,4]",
    "half F16[3]",
    "ids I32[2,2]",
    "layers.0.weight F32[3,5]",
    "mask BOOL[3]",
    "scalar F64[]",
    "名 U8[1]",
  ]);
  assertEquals(float32s(arrays.get("layers.0.weight")!), Array.from({ length: 15 }, (_, i) => Math.fround(i / 7)));
  assertEquals([...arrays.get("mask")!.data], [1, 0, 1]);
});

Deno.test("encodeSafetensors() keeps every array of the reference file", async () => {
  const reference = decodeSafetensors(await Deno.readFile(REFERENCE));
  const { arrays, metadata } = decodeSafetensors(encodeSafetensors(reference.arrays, reference.metadata));
  assertEquals(metadata, reference.metadata);
  assertEquals(new Map([...arrays].sort()), new Map([...reference.arrays].sort()));
});

Deno.test("encodeSafetensors() aligns data to 8 bytes and does not depend on the order of the arrays", () => {
  const wide: NamedArray = { dtype: "F32", shape: [3], data: new Uint8Array(12).fill(5) };
  const one = encodeSafetensors(new Map([["a", u8(1, 2, 3)], ["z", wide]]));
  const other = encodeSafetensors(new Map([["z", wide], ["a", u8(1, 2, 3)]]));
  assertEquals(one, other);
  assertEquals([...decodeSafetensors(one).arrays.keys()], ["z", "a"]);
  assertEquals((8 + Number(new DataView(one.buffer).getBigUint64(0, true))) % 8, 0);
});

Deno.test("encodeSafetensors() keeps names that objects treat specially", () => {
  const names = ["__proto__", "constructor", "7", "3", 'a"b\\c'];
  const file = decodeSafetensors(encodeSafetensors(new Map(names.map((name, i) => [name, u8(i)]))));
  assertEquals(names.map((name) => file.arrays.get(name)!.data[0]), [0, 1, 2, 3, 4]);
});

Deno.test("encodeSafetensors() writes no arrays at all", () => {
  const { arrays, metadata } = decodeSafetensors(encodeSafetensors(new Map()));
  assertEquals([arrays.size, Object.keys(metadata).length], [0, 0]);
});

Deno.test("decodeSafetensors() copies misaligned data, so that typed arrays can view it", () => {
  const bytes = fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', [0, 0, 128, 63]);
  assertEquals((8 + 54) % 4, 2);
  assertEquals(float32s(decodeSafetensors(bytes).arrays.get("a")!), [1]);
});

Deno.test("encodeSafetensors() rejects a shape that does not fit its bytes", () => {
  const error = assertThrows(
    () => encodeSafetensors(new Map([["w", { dtype: "F32", shape: [2, 3], data: new Uint8Array(20) }]])),
    CheckpointError,
  );
  assertEquals(error.message, 'Cannot write safetensors data: array "w", F32[2, 3], takes 24 bytes and has 20');
});

Deno.test("encodeSafetensors() rejects the reserved name", () => {
  const error = assertThrows(() => encodeSafetensors(new Map([["__metadata__", u8(1)]])), CheckpointError);
  assertEquals(error.message, "Cannot write safetensors data: __metadata__ is not a name for an array");
});

const CORRUPTIONS: readonly (readonly [what: string, bytes: Uint8Array, message: string])[] = [
  ["an empty file", new Uint8Array(0), "it has 0 bytes, and the header's length alone takes 8"],
  ["a header cut off", fileOf('{"a":1}').subarray(0, 12), "its header should take 7 bytes, and 4 are left"],
  [
    "a huge header length",
    new Uint8Array(16).fill(255),
    "its header should take 18446744073709551615 bytes, more than the 100000000 allowed",
  ],
  ["a header that is not an object", fileOf("[1]"), 'its header begins with "[", not with "{"'],
  ["a header that is a number", fileOf(" 1"), 'its header begins with " ", not with "{"'],
  ["an array twice", fileOf('{"a":{}, "a" : {}}'), 'its header has the key "a" twice'],
  ["an escaped array twice", fileOf('{"a":{},"\\u0061":{}}'), 'its header has the key "a" twice'],
  ["a key of an entry twice", fileOf('{"a":{"dtype":"U8","dtype":"I8"}}'), 'its header has the key "dtype" twice'],
  ["metadata that is no object", fileOf('{"__metadata__":[1]}'), "its __metadata__ is [1], not an object"],
  ["metadata that is not text", fileOf('{"__metadata__":{"k":1}}'), "its __metadata__.k is 1, not text"],
  ["an entry that is no object", fileOf('{"a":3}'), 'array "a" is 3, not an object'],
  [
    "an unknown dtype",
    fileOf('{"a":{"dtype":"F33","shape":[],"data_offsets":[0,4]}}'),
    'array "a" has the unknown dtype "F33"',
  ],
  ["no dtype", fileOf('{"a":{"shape":[],"data_offsets":[0,4]}}'), 'array "a" has the unknown dtype (none)'],
  [
    "a negative size",
    fileOf('{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,4]}}'),
    'array "a" has the shape [-1]',
  ],
  [
    "offsets backwards",
    fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[4,3]}}'),
    'array "a" has the data_offsets [4,3]',
  ],
  [
    "an unknown key",
    fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}'),
    'array "a" has the unknown key "x"',
  ],
  [
    "a shape that overflows",
    fileOf('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
    'array "a" takes an impossible number of bytes and has 0\n' +
    "  dtype    F32\n  shape    [4294967296, 4294967296]\n  offsets  0..0",
  ],
  [
    "a shape that disagrees with the offsets",
    fileOf('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', [0, 0, 0, 0]),
    'array "a" takes 8 bytes and has 4\n  dtype    F32\n  shape    [2]\n  offsets  0..4',
  ],
  [
    "data cut off",
    fileOf('{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', [1, 2]),
    'array "a" ends at byte 4 of the data, and the file has 2',
  ],
  [
    "overlapping arrays",
    fileOf(
      '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
      [1, 2, 3, 4],
    ),
    'array "b" begins at byte 2, inside array "a", which ends at 3',
  ],
  [
    "a hole",
    fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}', [1, 2, 3]),
    'bytes 0..2 of the data, before array "a", belong to no array',
  ],
  [
    "bytes left over",
    fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', [1, 2, 3]),
    "the last 2 bytes belong to no array",
  ],
];

for (const [what, bytes, message] of CORRUPTIONS) {
  Deno.test(`decodeSafetensors() says what is wrong with ${what}`, () => {
    assertEquals(messageOf(bytes), `Cannot read model.safetensors: ${message}`);
  });
}

Deno.test("decodeSafetensors() rejects a header that is not JSON, or not UTF-8", () => {
  assertEquals(messageOf(fileOf("{nope}")).split("\n")[0], "Cannot read model.safetensors: its header is not JSON");
  const invalid = fileOf('{"a"}');
  invalid[9] = 0xff;
  assertEquals(messageOf(invalid).split("\n")[0], "Cannot read model.safetensors: its header is not JSON");
});

Deno.test("decodeSafetensors() never accepts a file cut anywhere", async () => {
  const whole = await Deno.readFile(REFERENCE);
  for (let length = 0; length < whole.length; length++) messageOf(whole.slice(0, length));
});
