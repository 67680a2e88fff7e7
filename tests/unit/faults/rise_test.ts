import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { rise } from "../../faults/rise.ts";

Deno.test("rise() sees what grows and not what wavers", () => {
  assertEquals(rise([7, 7, 7, 7]), 0);
  assertEquals(rise([7]), 0);
  const wavering = Array.from({ length: 30 }, (_, i) => 100 + (i * 7919 % 13));
  assert(Math.abs(rise(wavering)) <= 4, String(rise(wavering)));
  assert(rise(wavering.map((each, i) => each + i)) > 15);
  assert(rise(wavering.map((each, i) => each - i)) < -15);
  // One sample that was taken at a bad moment is no growth.
  assertEquals(rise([5, 5, 5, 5, 5, 5, 5, 5, 900]), 0);
});
