import { deepStrictEqual, strictEqual } from "node:assert";
import { codeOf, EXIT, readTrailer, trailerOf } from "../../../src/spec/outcome.ts";

Deno.test("trailerOf() names the outcome by the exit code, and distinguishes what is partial from what is nothing", () => {
  const outcomes = [0, 1, 2, 3, 4, 143, 77].map((code) => trailerOf(code, 0, undefined).outcome);
  deepStrictEqual(outcomes, ["done", "failed", "usage", "nothingYet", "notHere", "ended", "failed"]);
  strictEqual(trailerOf(EXIT.failed, 5, undefined).outcome, "partial");
  strictEqual(trailerOf(EXIT.ended, 5, undefined).outcome, "ended");
});

Deno.test("readTrailer() reads what trailerOf() makes, and nothing else", () => {
  for (const state of [undefined, "capturing"] as const) {
    const trailer = trailerOf(EXIT.nothingYet, 0, state);
    deepStrictEqual(readTrailer(JSON.stringify(trailer)), trailer);
  }
  deepStrictEqual(trailerOf(0, 3, "held"), { trailer: 1, outcome: "done", bytes: 3, state: "held" });
  deepStrictEqual(trailerOf(0, 3, undefined), { trailer: 1, outcome: "done", bytes: 3 });
  const others = [
    '{"outcome":"done","trailer":1,"bytes":3}',
    ...["", "all 7 bytes are written", '{"bytes":1}', '{"trailer":1', '{"trailer":2,"outcome":"done","bytes":1}'],
    ...['{"trailer":1,"outcome":"done"}', '{"trailer":1,"bytes":-1}', '{"trailer":1,"bytes":1.5}'],
  ];
  for (const line of others) strictEqual(readTrailer(line), undefined, line);
});

Deno.test("codeOf() is the exit code with which the command ended", () => {
  for (const code of Object.values(EXIT)) strictEqual(codeOf(trailerOf(code, 0, undefined)), code);
  strictEqual(codeOf(trailerOf(EXIT.failed, 5, undefined)), EXIT.failed);
  strictEqual(codeOf(trailerOf(77, 0, undefined)), EXIT.failed);
});
