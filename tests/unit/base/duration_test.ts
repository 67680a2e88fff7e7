import assert from "node:assert/strict";
import { parseDuration } from "../../../src/base/duration.ts";

Deno.test("parseDuration() reads whole seconds, minutes and hours", () => {
  const durations = { "0s": 0, "30s": 30, "10m": 600, "2h": 7200, "007m": 420 };
  for (const [text, seconds] of Object.entries(durations)) assert.equal(parseDuration(text), seconds, text);
});

Deno.test("parseDuration() refuses everything else", () => {
  for (const text of ["", "5", "s", "1.5h", "-1s", "1d", "10 m", "1h30m", "١s", "1S", "1e3s", "9999999999s", "1s\n"]) {
    assert.equal(parseDuration(text), undefined, text);
  }
});
