import assert from "node:assert/strict";
import { formatDuration, parseDuration } from "../../../src/base/duration.ts";

Deno.test("parseDuration() reads whole seconds, minutes and hours", () => {
  const durations = { "0s": 0, "30s": 30, "10m": 600, "2h": 7200, "007m": 420 };
  for (const [text, seconds] of Object.entries(durations)) assert.equal(parseDuration(text), seconds, text);
});

Deno.test("parseDuration() refuses everything else", () => {
  for (const text of ["", "5", "s", "1.5h", "-1s", "1d", "10 m", "1h30m", "١s", "1S", "1e3s", "9999999999s", "1s\n"]) {
    assert.equal(parseDuration(text), undefined, text);
  }
});

Deno.test("formatDuration() writes what parseDuration() reads, in the largest unit that keeps it whole", () => {
  const written = { 0: "0s", 1: "1s", 59: "59s", 60: "1m", 90: "90s", 600: "10m", 3600: "1h", 3660: "61m", 7200: "2h" };
  for (const [seconds, text] of Object.entries(written)) {
    assert.equal(formatDuration(Number(seconds)), text);
    assert.equal(parseDuration(text), Number(seconds));
  }
});
