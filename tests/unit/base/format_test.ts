import { deepStrictEqual } from "node:assert";
import { count, formatBytes, times } from "../../../src/base/format.ts";

Deno.test("formatBytes(), count() and times() write numbers for people", () => {
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
  deepStrictEqual([1, 3].map(times), ["once", "3 times"]);
});
