import { deepStrictEqual as assertEquals, ok as assert, rejects as assertRejects } from "node:assert/strict";
import fc from "fast-check";
import { FairSemaphore } from "../../../src/base/fair_semaphore.ts";

/** Lets all that can happen now happen. */
const settle = () => new Promise((resolve) => setTimeout(resolve));

Deno.test("FairSemaphore gives turns to groups in rotation, and within one in the order in which they were asked for", async () => {
  const turns = new FairSemaphore(1, 1);
  const begun: string[] = [];
  const giveBack: (() => void)[] = [];
  for (const name of ["a1", "a2", "a3", "b1", "c1", "b2"]) {
    void turns.take(name[0]!).then((back) => {
      begun.push(name);
      giveBack.push(back);
    });
  }
  for (let i = 0; i < 6; i++) {
    await settle();
    assertEquals(begun.length, i + 1);
    giveBack[i]!();
    giveBack[i]!(); // gives nothing back twice
  }
  assertEquals(begun, ["a1", "a2", "b1", "c1", "a3", "b2"]);
});

Deno.test("FairSemaphore forgets who does not wait any more, and loses no turn by it", async () => {
  const turns = new FairSemaphore(1, 1);
  const first = await turns.take("a");
  const abort = new AbortController();
  const waiting = turns.take("a", abort.signal);
  abort.abort(new Error("edited"));
  await assertRejects(waiting, /edited/);
  await assertRejects(turns.take("a", abort.signal), /edited/);
  const next = turns.take("b");
  first();
  (await next)();
  (await turns.take("a"))();
});

Deno.test("FairSemaphore never gives more turns than it has, nor one group more than its share, and leaves none unused", async () => {
  const commands = fc.array(fc.record({ group: fc.constantFrom("a", "b", "c"), ends: fc.nat(3) }), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      commands,
      async (atOnce, ofGroup, commands) => {
        const turns = new FairSemaphore(atOnce, ofGroup);
        const running: { group: string; back: () => void }[] = [];
        const waiting: string[] = [];
        const of = (group: string, list: { group: string }[]) => list.filter((one) => one.group === group).length;
        for (const { group, ends } of commands) {
          waiting.push(group);
          void turns.take(group).then((back) => {
            waiting.splice(waiting.indexOf(group), 1);
            running.push({ group, back });
          });
          for (let i = 0; i < 5; i++) await Promise.resolve();
          for (const { back } of running.splice(0, ends)) back();
          for (let i = 0; i < 5; i++) await Promise.resolve();
          assert(running.length <= atOnce);
          for (const name of ["a", "b", "c"]) {
            assert(of(name, running) <= ofGroup);
            const couldRun = waiting.includes(name) && running.length < atOnce && of(name, running) < ofGroup;
            assert(!couldRun, `${name} waits although there is a turn`);
          }
        }
      },
    ),
  );
});
