import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { backoffMs } from "../../../src/base/backoff.ts";

const STEPS = { firstMs: 100, mostMs: 1000 };
const each = (random?: () => number) => [1, 2, 3, 4, 5, 6, 5000].map((failures) => backoffMs(failures, STEPS, random));

Deno.test("backoffMs() doubles from failure to failure up to the longest, however many there are", () => {
  assertEquals(each(() => 1), [100, 200, 400, 800, 1000, 1000, 1000]);
});

Deno.test("backoffMs() spreads each step between half and all of it", () => {
  assertEquals(each(() => 0), [50, 100, 200, 400, 500, 500, 500]);
  const many = Array.from({ length: 1000 }, () => backoffMs(1, STEPS));
  assert(many.every((ms) => ms >= 50 && ms <= 100));
  assert(Math.min(...many) < 60 && Math.max(...many) > 90, "it is jittered");
});
