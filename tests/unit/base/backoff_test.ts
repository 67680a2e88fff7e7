import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { Backoff, backoffMs } from "../../../src/base/backoff.ts";

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

Deno.test("Backoff waits longer with each failure in a place, and not at all in another or after a good start", () => {
  const backoff = new Backoff(() => {}, { firstMs: 100_000, mostMs: 200_000 });
  try {
    assert(backoff.failed("s1", "no", 0) <= 100_000);
    assert(backoff.failed("s1", "no", 9999) >= 100_000);
    assertEquals([backoff.reason("s1"), backoff.reason("s2")], ["no", undefined]);
    assert(backoff.failed("s2", "no", 0) <= 100_000);
    assertEquals(backoff.failed("s2", "no", 10_000), 0);
    assert(backoff.failed("s2", "no", 0) <= 200_000);
    backoff.clear();
    assertEquals(backoff.reason("s2"), undefined);
  } finally {
    backoff.clear();
  }
});
