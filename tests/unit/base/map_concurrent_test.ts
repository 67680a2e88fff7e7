import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert";
import fc from "fast-check";
import { mapConcurrent } from "../../../src/base/map_concurrent.ts";

Deno.test("mapConcurrent() keeps order and limit, however long each piece of work takes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(3), { maxLength: 20 }), fc.integer({ min: 1, max: 5 }), async (turns, limit) => {
      let running = 0, most = 0;
      const results = await mapConcurrent(turns, limit, async (turn, index) => {
        most = Math.max(most, ++running);
        for (let i = 0; i < turn; i++) await Promise.resolve();
        running--;
        return index;
      });
      deepStrictEqual(results, turns.map((_, index) => index));
      ok(most <= limit);
    }),
  );
});

Deno.test("mapConcurrent() begins nothing after the first error, and waits for what is under way", async () => {
  const ended: number[] = [];
  await rejects(
    mapConcurrent([0, 1, 2, 3], 2, async (item) => {
      if (item === 0) throw new Error("no");
      await new Promise((resolve) => setTimeout(resolve));
      ended.push(item);
    }),
    { message: "no" },
  );
  deepStrictEqual(ended, [1]);
  strictEqual(ended.length, 1);
});
