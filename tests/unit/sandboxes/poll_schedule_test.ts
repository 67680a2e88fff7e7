import { deepStrictEqual as assertEquals, ok as assert, strictEqual as assertSame } from "node:assert/strict";
import { PollSchedule } from "../../../src/sandboxes/poll_schedule.ts";

/** Looks as often as is due from `from` to `to`, 1 ms each, and gives the pauses. */
function pauses(schedule: PollSchedule, from: number, to: number, outcome: "listed" | "failed" = "listed"): number[] {
  const pauses: number[] = [];
  for (let now = from; now < to;) {
    schedule.looked(now, now + 1, outcome);
    const due = schedule.due(now + 1, []);
    pauses.push(due - now - 1);
    now = due;
  }
  return pauses;
}

function assertNear(found: readonly number[], expected: readonly number[], jitter: number): void {
  const near = found.length === expected.length &&
    found.every((ms, n) => ms <= expected[n]! && ms >= expected[n]! * (1 - jitter));
  assert(near, `${found} is not ${expected}, up to ${jitter * 100} % less`);
}

Deno.test("PollSchedule.due() grows from poll to poll up to 15 s while nothing happens, and starts again when something does", () => {
  const schedule = new PollSchedule();
  assertNear(pauses(schedule, 0, 39_500), [2_000, 4_000, 8_000, 15_000, 15_000], 0.1);
  schedule.changed();
  assertNear(pauses(schedule, 50_000, 51_000), [2_000], 0.1);
});

Deno.test("PollSchedule.due() is every second while it is urgent", () => {
  const schedule = new PollSchedule();
  assertSame(schedule.setUrgent(true), true);
  assertSame(schedule.setUrgent(true), false);
  // Three of the shortest pauses take 2.7 s: there is no room for a fourth.
  assertNear(pauses(schedule, 0, 2_690), [1_000, 1_000, 1_000], 0.1);
});

Deno.test("PollSchedule.due() is soon and often after a netns was made, ever less so, and for 30 s", () => {
  const schedule = new PollSchedule();
  pauses(schedule, 0, 60_000);
  schedule.expect("cni-1", 100_000);
  const found = pauses(schedule, 100_000, 131_000);
  assertEquals(found.slice(0, 10), Array(10).fill(5));
  assert(found.every((ms, n) => n === 0 || n === found.length - 1 || ms >= found[n - 1]!), "they only grow");
  assertSame(Math.max(...found.slice(0, -1)), 250);
  assert(found.at(-1)! > 10_000, "the next poll");
  // Looked at again, it is no news.
  schedule.expect("cni-1", 140_000);
  assert(schedule.due(140_000, []) > 140_250);
});

Deno.test("PollSchedule.due() goes back to the poll when the file is a sandbox's or has gone", () => {
  const schedule = new PollSchedule();
  pauses(schedule, 0, 60_000);
  for (const end of [() => schedule.settle("cni-1"), () => schedule.retain(new Set(["other"]), 101_000)]) {
    schedule.expect("cni-1", 100_000);
    schedule.looked(100_000, 100_001, "listed");
    assertSame(schedule.due(100_001, []), 100_006);
    end();
    assert(schedule.due(100_001, []) > 113_000);
  }
});

Deno.test("PollSchedule.retain() keeps a file that was made after the directory was read", () => {
  const schedule = new PollSchedule();
  pauses(schedule, 0, 60_000);
  schedule.expect("cni-1", 100_000);
  schedule.retain(new Set(), 99_990);
  schedule.looked(100_000, 100_001, "listed");
  assertSame(schedule.due(100_001, []), 100_006);
});

Deno.test("PollSchedule.due() leaves twice the time a look takes between looks, but not more than 50 ms", () => {
  for (const [took, pause] of [[1, 5], [10, 20], [25, 50], [4_000, 50]] as const) {
    const schedule = new PollSchedule();
    schedule.expect("cni-1", 0);
    schedule.looked(0, took, "listed");
    assertSame(schedule.due(took, []) - took, Math.max(pause, Math.min(took / 20, 250)));
  }
});

Deno.test("PollSchedule.due() is when a single sandbox is to be asked about, if that is before the poll", () => {
  const schedule = new PollSchedule();
  schedule.looked(0, 1, "listed");
  assertSame(schedule.due(1, [Infinity, 700, 900]), 700);
  assertSame(schedule.due(1, [0]), 6);
});

Deno.test("PollSchedule.due() backs off from a runtime that fails, up to 5 s, 1 s while urgent, until a netns is made or it answers", () => {
  const schedule = new PollSchedule();
  assertNear(pauses(schedule, 0, 13_000, "failed").slice(0, 8), [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000], 0.5);
  schedule.setUrgent(true);
  assertNear(pauses(schedule, 20_000, 20_500, "failed"), [1_000], 0.5);
  schedule.expect("cni-1", 22_000);
  schedule.hurry();
  assertSame(schedule.due(22_000, []), -Infinity);
  schedule.looked(22_000, 22_001, "listed");
  assertSame(schedule.due(22_001, []), 22_006);
});

Deno.test("PollSchedule.quiet() is only when nothing has happened for long and nothing is waited for, and not for more than a minute", () => {
  const schedule = new PollSchedule();
  let now = 0;
  const settle = () => {
    for (let n = 0; n < 5; n++) schedule.looked(now, now += 20_000, "listed");
    assertSame(schedule.quiet(now, []), true);
  };
  assertSame(schedule.quiet(0, []), false);
  settle();
  assertSame(schedule.quiet(now, [now + 1, Infinity]), true);
  assertSame(schedule.quiet(now, [now]), false);
  assertSame(schedule.quiet(now + 60_000, []), false);
  schedule.looked(now, now + 59_000, "pinged");
  assertSame(schedule.quiet(now + 59_999, []), true);
  assertSame(schedule.quiet(now + 60_000, []), false, "a ping is no list");
  const happenings = [
    () => schedule.changed(),
    () => schedule.setUrgent(true),
    () => schedule.expect("a", now),
    () => schedule.looked(now, now, "failed"),
  ];
  for (const happen of happenings) {
    happen();
    assertSame(schedule.quiet(now, []), false, String(happen));
    schedule.setUrgent(false);
    schedule.settle("a");
    settle();
  }
});
