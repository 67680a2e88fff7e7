import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import { ClockSteps, withStep } from "../../../src/captures/clock_steps.ts";

Deno.test("ClockSteps.look() notices that the wall clock was set, once, and by how much", () => {
  const { now } = Date;
  let set = 0;
  Date.now = () => now() + set;
  try {
    const clock = new ClockSteps();
    same(clock.look(), undefined);
    for (const [to, seconds] of [[3_600_000, 3600], [1_600_000, -2000]] as const) {
      set = to;
      const step = clock.look();
      assert(step && Math.abs(step.seconds - seconds) < 0.5, JSON.stringify(step));
      same(clock.look(), undefined);
    }
    // What a clock is slewed by.
    set += 500;
    same(clock.look(), undefined);
  } finally {
    Date.now = now;
  }
});

Deno.test("withStep() keeps the last twenty", () => {
  const step = (seconds: number) => ({ at: "2026-01-31T12:00:00.000Z", seconds });
  const many = Array.from({ length: 30 }, (_, i) => step(i)).reduce<ReturnType<typeof step>[]>(withStep, []);
  assertEquals(many, Array.from({ length: 20 }, (_, i) => step(i + 10)));
});
