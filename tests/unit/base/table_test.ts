import { deepStrictEqual } from "node:assert";
import { compareText, tableLines } from "../../../src/base/table.ts";

Deno.test("tableLines() aligns columns and escapes what is in them before it measures", () => {
  deepStrictEqual(tableLines([["POD", "NODE"], ["web\u001b[2J-0", "w"], ["a", "worker1"]]), [
    "POD           NODE",
    "web\\x1b[2J-0  w",
    "a             worker1",
  ]);
});

Deno.test("compareText() sorts by code units", () => {
  deepStrictEqual(["b", "a", "B", "a", "ä"].sort(compareText), ["B", "a", "a", "b", "ä"]);
});
