import { deepStrictEqual, ok, rejects, strictEqual } from "node:assert";
import fc from "fast-check";
import { bounded } from "../../../src/plugin/bounded.ts";

Deno.test("bounded() keeps order and limit, however long each piece of work takes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(3), { maxLength: 20 }), fc.integer({ min: 1, max: 5 }), async (turns, limit) => {
      let running = 0, most = 0;
      const results = await bounded(turns, limit, async (turn, index) => {
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

Deno.test("bounded() begins nothing after the first error, and waits for what is under way", async () => {
  const ended: number[] = [];
  await rejects(
    bounded([0, 1, 2, 3], 2, async (item) => {
      if (item === 0) throw new Error("no");
      await new Promise((resolve) => setTimeout(resolve));
      ended.push(item);
    }),
    { message: "no" },
  );
  deepStrictEqual(ended, [1]);
  strictEqual(ended.length, 1);
});
