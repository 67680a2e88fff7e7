import { ok as assert, rejects as assertRejects, strictEqual as assertSame } from "node:assert/strict";
import { abortable, Deadline, deadline, LONGEST_TIMER_MS, pause, settledWithin } from "../../../src/base/timeout.ts";

// Deno.test itself fails where a timer is left running.
const never = new Promise<never>(() => {});
const reason = new Error("told to stop");
const isReason = (error: unknown) => error === reason;

/** A signal that is aborted soon. */
function soonAborted(): AbortSignal {
  const controller = new AbortController();
  queueMicrotask(() => controller.abort(reason));
  return controller.signal;
}

Deno.test("pause() waits for its time, or until it is aborted", async () => {
  const began = performance.now();
  await pause(30);
  assert(performance.now() - began >= 29);
  await assertRejects(pause(60_000, soonAborted()), isReason);
  await assertRejects(pause(60_000, AbortSignal.abort(reason)), isReason);
});

Deno.test("a wait of more than setTimeout takes does not end at once", async () => {
  for (const ms of [LONGEST_TIMER_MS + 1, Infinity]) {
    await assertRejects(pause(ms, AbortSignal.timeout(20)), { name: "TimeoutError" });
  }
});

Deno.test("abortable() settles as the promise does, unless it is aborted before", async () => {
  const { signal } = new AbortController();
  assertSame(await abortable(Promise.resolve(7), signal), 7);
  await assertRejects(abortable(Promise.reject(reason), signal), isReason);
  await assertRejects(abortable(never, soonAborted()), isReason);
});

Deno.test("abortable() of an aborted signal leaves no rejection unhandled", async () => {
  const late = Promise.withResolvers<void>();
  await assertRejects(abortable(late.promise, AbortSignal.abort(reason)), isReason);
  late.reject(new Error("that nobody waits for"));
  await pause(0);
});

Deno.test("deadline() settles as the promise does, unless its time is over before", async () => {
  assertSame(await deadline(Promise.resolve(7), 60_000, () => reason), 7);
  await assertRejects(deadline(Promise.reject(reason), 60_000, () => new Error("late")), isReason);
  const late = Promise.withResolvers<void>();
  await assertRejects(deadline(late.promise, 5, () => reason), isReason);
  late.reject(new Error("that nobody waits for"));
  await pause(0);
});

Deno.test("settledWithin() reports whether the promise has settled, however, and throws only when it is aborted", async () => {
  assertSame(await settledWithin(60_000, Promise.resolve()), true);
  assertSame(await settledWithin(60_000, Promise.reject(reason)), true);
  assertSame(await settledWithin(5, never), false);
  assertSame(await settledWithin(-1, never), false);
  await assertRejects(settledWithin(60_000, never, soonAborted()), isReason);
});

Deno.test("a Deadline is aborted by its clock, or by another signal for that one's reason", async () => {
  using late = new Deadline(5, () => reason, undefined);
  await assertRejects(abortable(never, late.signal), isReason);
  using stopped = new Deadline(60_000, () => new Error("late"), new AbortController().signal, soonAborted());
  await assertRejects(abortable(never, stopped.signal), isReason);
  using begun = new Deadline(60_000, () => new Error("late"), AbortSignal.abort(reason));
  assertSame(begun.signal.reason, reason);
});

Deno.test("a Deadline whose clock is stopped is still aborted by another signal, until it is disposed of", async () => {
  const outer = new AbortController();
  const stopped = new Deadline(5, () => new Error("late"), outer.signal);
  const disposed = new Deadline(5, () => new Error("late"), outer.signal);
  stopped.stopClock();
  disposed[Symbol.dispose]();
  await pause(30);
  assertSame(stopped.signal.aborted, false);
  outer.abort(reason);
  assertSame(stopped.signal.reason, reason);
  assertSame(disposed.signal.aborted, false);
});
