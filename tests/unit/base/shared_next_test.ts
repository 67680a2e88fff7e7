import { deepStrictEqual as assertEquals, rejects } from "node:assert/strict";
import { SharedNext } from "../../../src/base/shared_next.ts";

Deno.test("SharedNext.run() begins after the call, once for all who ask while the work is under way, also after a failure", async () => {
  const begun: PromiseWithResolvers<void>[] = [];
  const shared = new SharedNext(() => {
    const work = Promise.withResolvers<void>();
    begun.push(work);
    return work.promise;
  });
  const turn = () => new Promise((resolve) => setTimeout(resolve));
  const done: string[] = [];
  const first = shared.run();
  await turn();
  const others = Array.from({ length: 20 }, (_, i) => shared.run().then(() => done.push(`${i}`)));
  await turn();
  assertEquals([begun.length, done.length], [1, 0]);
  begun[0]!.reject(new Error("it failed"));
  await rejects(first, /it failed/);
  await turn();
  assertEquals([begun.length, done.length], [2, 0]);
  begun[1]!.resolve();
  await Promise.all(others);
  assertEquals([begun.length, done.length], [2, 20]);
});
