import { assertEquals } from "@std/assert";
import type { VariantSpec } from "../../../src/train/compare/comparison.ts";
import { checkNames, parseVariants } from "../../../src/train/compare/specs.ts";
import { addTableSource, needsTable, tableSourceOf } from "../../../src/train/compare/tables.ts";
import type { Problem } from "../../../src/train/option_problems.ts";

Deno.test("parseVariants() reads labels, options and their types", () => {
  const problems: Problem[] = [];
  assertEquals(
    parseVariants("dense, big=switch:experts=32+expert-width=8 ,thor:consistency=0.5,altup:allowNonCausal", problems),
    [
      { name: "dense", options: { router: "dense" } },
      { name: "big", options: { router: "switch", experts: 32, expertWidth: 8 } },
      { name: "thor-consistency-0.5", options: { router: "thor", consistency: 0.5 } },
      { name: "altup-allowNonCausal", options: { router: "altup", allowNonCausal: true } },
    ],
  );
  // An equals sign behind the colon belongs to an option, also where there is no label.
  assertEquals(parseVariants("hash:table=random", problems)[0]!.name, "hash-table-random");
  assertEquals(problems, []);
});

Deno.test("parseVariants() reports each text that is no variant", () => {
  const problems: Problem[] = [];
  assertEquals(parseVariants("a=,dense,hash:=3,switch:experts=1+experts=2", problems).map(({ name }) => name), [
    "dense",
  ]);
  assertEquals(problems.map(([, value, requirement]) => [value, requirement]), [
    ["a=", "must name a router: [LABEL=]ROUTER[:OPTION=VALUE+…]"],
    ["hash:=3", "has an option without a name: [LABEL=]ROUTER[:OPTION=VALUE+…]"],
    ["switch:experts=1+experts=2", "has the option experts twice"],
  ]);
});

Deno.test("checkNames() refuses repeats in either case, and what cannot be a folder", () => {
  const problems: Problem[] = [];
  const specs = ["dense", "Dense", "../up", "a b"].map((name): VariantSpec => ({ name, options: { router: "dense" } }));
  checkNames(specs, problems);
  assertEquals(problems.map(([, value]) => value), ["Dense", "../up", "a b"]);
});

Deno.test("a learned table takes the plain dense variant, which is added and put first", () => {
  const table: VariantSpec = { name: "near", options: { router: "hash", table: "clustered" } };
  const wide: VariantSpec = { name: "wide", options: { router: "dense", width: 64 } };
  const plain: VariantSpec = { name: "plain", options: { router: "dense" } };
  assertEquals(addTableSource([table, wide]).map(({ name }) => name), ["dense", "near", "wide"]);
  assertEquals(addTableSource([table, wide, plain]).map(({ name }) => name), ["plain", "near", "wide"]);
  assertEquals(tableSourceOf([wide, plain]), "plain");
  const own: VariantSpec = { name: "own", options: { router: "hash", table: "clustered", "table-from": "runs/x" } };
  assertEquals([needsTable(table), needsTable(own), needsTable(plain)], [true, false, false]);
  assertEquals(addTableSource([own, wide]), [own, wide]);
});
