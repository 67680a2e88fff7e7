import { deepStrictEqual as assertEquals, rejects as assertRejects } from "node:assert/strict";
import { Semaphore } from "../../../src/base/semaphore.ts";

Deno.test("take() does so much at once, the rest in the order in which it came, and goes on after a failure", async () => {
  const turns = new Semaphore(2);
  const begun: number[] = [];
  const works = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
  const all = works.map(({ promise }, i) =>
    turns.take(() => {
      begun.push(i);
      return promise;
    })
  );
  const settle = () => new Promise((resolve) => setTimeout(resolve));
  await settle();
  assertEquals(begun, [0, 1]);
  works[1]!.reject(new Error("it failed"));
  await assertRejects(all[1]!, /it failed/);
  await settle();
  assertEquals(begun, [0, 1, 2]);
  for (const { resolve } of works) resolve();
  await Promise.allSettled(all);
  assertEquals(begun, [0, 1, 2, 3, 4]);
  // All turns are free again.
  assertEquals(await Promise.all([turns.take(() => Promise.resolve(1)), turns.take(() => Promise.resolve(2))]), [1, 2]);
});
