import { strictEqual } from "node:assert/strict";
import { optionsCell } from "../../../src/spec/row.ts";

Deno.test("optionsCell() joins a row's options, and writes a dash where there are none", () => {
  strictEqual(optionsCell({ "file-size": "2", duration: "10m" }), "file-size=2 duration=10m");
  strictEqual(optionsCell({}), "-");
  // A row of a version before has none.
  strictEqual(optionsCell(undefined), "-");
});
