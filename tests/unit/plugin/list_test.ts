import { deepStrictEqual, strictEqual } from "node:assert";
import { count, formatBytes } from "../../../src/plugin/captures.ts";
import { age, table } from "../../../src/plugin/list.ts";

Deno.test("table() aligns columns and escapes what is in them before it measures", () => {
  deepStrictEqual(table([["POD", "NODE"], ["web\u001b[2J-0", "w"], ["a", "worker1"]]), [
    "POD           NODE",
    "web\\x1b[2J-0  w",
    "a             worker1",
  ]);
});

Deno.test("age() speaks as kubectl does, and of no time as -", () => {
  const now = Date.parse("2026-01-10T00:00:00Z");
  const before = (seconds: number) => age(new Date(now - seconds * 1000).toISOString(), now);
  deepStrictEqual([0, 119, 120, 7199, 7200, 172_799, 172_800].map(before), [
    "0s",
    "119s",
    "2m",
    "119m",
    "2h",
    "47h",
    "2d",
  ]);
  deepStrictEqual([undefined, null, "", "soon"].map((time) => age(time, now)), ["-", "-", "-", "-"]);
  strictEqual(age(new Date(now + 5000).toISOString(), now), "0s"); // the node's clock is ahead of ours
});

Deno.test("formatBytes() and count() speak to people", () => {
  deepStrictEqual([0, 999, 1000, 999_949, 999_951, 4_200_000, 1e15].map(formatBytes), [
    "0 B",
    "999 B",
    "1.0 kB",
    "999.9 kB",
    "1.0 MB",
    "4.2 MB",
    "1000.0 TB",
  ]);
  deepStrictEqual([count(1, "file"), count(0, "pod")], ["1 file", "0 pods"]);
});
