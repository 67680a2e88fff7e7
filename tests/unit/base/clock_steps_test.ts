import { ok as assert, strictEqual as same } from "node:assert/strict";
import { ClockSteps } from "../../../src/base/clock_steps.ts";

Deno.test("ClockSteps.look() notices that the wall clock was set, once, and by how much", () => {
  const { now } = Date;
  let set = 0;
  Date.now = () => now() + set;
  try {
    const clock = new ClockSteps();
    same(clock.look(), undefined);
    for (const [to, expected] of [[3_600_000, 3600], [1_600_000, -2000]] as const) {
      set = to;
      const seconds = clock.look();
      assert(seconds !== undefined && Math.abs(seconds - expected) < 0.5, String(seconds));
      same(clock.look(), undefined);
    }
    // What a clock is slewed by.
    set += 500;
    same(clock.look(), undefined);
  } finally {
    Date.now = now;
  }
});
