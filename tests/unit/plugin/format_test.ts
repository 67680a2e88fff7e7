import { deepStrictEqual, strictEqual } from "node:assert";
import { age } from "../../../src/plugin/format.ts";

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
