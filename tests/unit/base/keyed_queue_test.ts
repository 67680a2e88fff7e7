import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { KeyedQueue } from "../../../src/base/keyed_queue.ts";

Deno.test("KeyedQueue works on a key serially, on different ones in parallel, and once more if asked meanwhile", async () => {
  const gates = new Map<string, PromiseWithResolvers<void>>();
  const log: string[] = [];
  const busy = new Set<string>();
  const queue = new KeyedQueue(async (key) => {
    assert(!busy.has(key), "two at a time for one key");
    busy.add(key);
    log.push(key);
    const gate = Promise.withResolvers<void>();
    gates.set(key, gate);
    await gate.promise;
    busy.delete(key);
  }, () => assert(false));
  queue.add("a");
  queue.add("b");
  assertEquals(log, ["a", "b"]);
  queue.add("a");
  queue.add("a");
  gates.get("a")?.resolve();
  gates.get("b")?.resolve();
  while (log.length < 3) await Promise.resolve();
  gates.get("a")?.resolve();
  assert(await queue.idle(10_000));
  assertEquals(log, ["a", "b", "a"]);
});

Deno.test("KeyedQueue does at once what was asked for during work that fails, but not for ever", async () => {
  const delays: number[] = [];
  let calls = 0;
  const queue = new KeyedQueue((key) => {
    calls++;
    queue.add(key);
    return Promise.reject(new Error("no"));
  }, (_key, _error, retryInMs) => delays.push(retryInMs));
  queue.add("a");
  await queue.idle(10_000);
  assertEquals(calls, 2);
  assertEquals(delays[0], 0);
  assert(delays[1]! >= 200, String(delays[1]));
  queue.close();
});

Deno.test("KeyedQueue.idle() waits no longer than it is told to", async () => {
  const gate = Promise.withResolvers<void>();
  const queue = new KeyedQueue(() => gate.promise, () => assert(false));
  queue.add("a");
  assertEquals(await queue.idle(1), false);
  gate.resolve();
  assert(await queue.idle(10_000));
});

Deno.test("KeyedQueue tries a failing key again, later and later, until it works", async () => {
  const delays: number[] = [];
  let failures = 3;
  const done = Promise.withResolvers<void>();
  const queue = new KeyedQueue((_key) => {
    if (failures-- > 0) return Promise.reject(new Error("no"));
    done.resolve();
    return Promise.resolve();
  }, (_key, _error, retryInMs) => delays.push(retryInMs));
  queue.add("a");
  await done.promise;
  assertEquals(delays.length, 3);
  for (const [i, nominal] of [200, 400, 800].entries()) {
    const ms = delays[i] ?? 0;
    assert(ms >= nominal * 0.5 && ms <= nominal, String(ms));
  }
  queue.close();
});
