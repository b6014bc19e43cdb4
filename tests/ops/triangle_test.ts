import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/core/errors.ts";
import { full, ones, zeros } from "../../src/ops/creation.ts";
import { tril, triu } from "../../src/ops/triangle.ts";
import { checkOp, oracleTest } from "../support/check_primitive.ts";

checkOp({ name: "tril", fn: (x) => tril(x), samples: [{ inputs: [{ shape: [2, 3, 5] }] }] });
checkOp({ name: "triu", fn: (x) => triu(x, -1), samples: [{ inputs: [{ shape: [4, 8] }] }] });

oracleTest("tril() and triu() count diagonals to the right", async () => {
  assertEquals([...await tril(ones([2, 3]), 1).data()], [1, 1, 0, 1, 1, 1]);
  assertEquals([...await triu(ones([2, 3]), 1).data()], [0, 1, 1, 0, 0, 1]);
  assertEquals([...await tril(ones([2, 2]), -9).data()], [0, 0, 0, 0]);
});

oracleTest("tril() makes the rest zero even where it was infinite", async () => {
  assertEquals([...await tril(full([2, 2], -Infinity)).data()], [-Infinity, 0, -Infinity, -Infinity]);
});

oracleTest("tril() refuses a vector", () => {
  assertThrows(() => tril(zeros([3])), ShapeError, "it is not a matrix");
});
