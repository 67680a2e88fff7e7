import { deepStrictEqual as assertEquals, ok as assert, strictEqual as assertSame } from "node:assert/strict";
import { Pace } from "../../../src/sandboxes/pace.ts";

/** Looks as often as is due from `from` to `to`, 1 ms each, and gives the pauses. */
function pauses(pace: Pace, from: number, to: number, outcome: "listed" | "failed" = "listed"): number[] {
  const pauses: number[] = [];
  for (let now = from; now < to;) {
    pace.looked(now, now + 1, outcome);
    const due = pace.due(now + 1, []);
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

Deno.test("Pace.due() grows from poll to poll up to 15 s while nothing happens, and starts again when something does", () => {
  const pace = new Pace();
  assertNear(pauses(pace, 0, 39_500), [2_000, 4_000, 8_000, 15_000, 15_000], 0.1);
  pace.changed();
  assertNear(pauses(pace, 50_000, 51_000), [2_000], 0.1);
});

Deno.test("Pace.due() is every second while it is urgent", () => {
  const pace = new Pace();
  assertSame(pace.setUrgent(true), true);
  assertSame(pace.setUrgent(true), false);
  // Three of the shortest pauses take 2.7 s: there is no room for a fourth.
  assertNear(pauses(pace, 0, 2_690), [1_000, 1_000, 1_000], 0.1);
});

Deno.test("Pace.due() is soon and often after a netns was made, ever less so, and for 30 s", () => {
  const pace = new Pace();
  pauses(pace, 0, 60_000);
  pace.expect("cni-1", 100_000);
  const found = pauses(pace, 100_000, 131_000);
  assertEquals(found.slice(0, 10), Array(10).fill(5));
  assert(found.every((ms, n) => n === 0 || n === found.length - 1 || ms >= found[n - 1]!), "they only grow");
  assertSame(Math.max(...found.slice(0, -1)), 250);
  assert(found.at(-1)! > 10_000, "the next poll");
  // Looked at again, it is no news.
  pace.expect("cni-1", 140_000);
  assert(pace.due(140_000, []) > 140_250);
});

Deno.test("Pace.due() goes back to the poll when the file is a sandbox's or has gone", () => {
  const pace = new Pace();
  pauses(pace, 0, 60_000);
  for (const end of [() => pace.settle("cni-1"), () => pace.retain(new Set(["other"]), 101_000)]) {
    pace.expect("cni-1", 100_000);
    pace.looked(100_000, 100_001, "listed");
    assertSame(pace.due(100_001, []), 100_006);
    end();
    assert(pace.due(100_001, []) > 113_000);
  }
});

Deno.test("Pace.retain() keeps a file that was made after the directory was read", () => {
  const pace = new Pace();
  pauses(pace, 0, 60_000);
  pace.expect("cni-1", 100_000);
  pace.retain(new Set(), 99_990);
  pace.looked(100_000, 100_001, "listed");
  assertSame(pace.due(100_001, []), 100_006);
});

Deno.test("Pace.due() leaves twice the time a look takes between looks, but not more than 50 ms", () => {
  for (const [took, pause] of [[1, 5], [10, 20], [25, 50], [4_000, 50]] as const) {
    const pace = new Pace();
    pace.expect("cni-1", 0);
    pace.looked(0, took, "listed");
    assertSame(pace.due(took, []) - took, Math.max(pause, Math.min(took / 20, 250)));
  }
});

Deno.test("Pace.due() is when a single sandbox is to be asked about, if that is before the poll", () => {
  const pace = new Pace();
  pace.looked(0, 1, "listed");
  assertSame(pace.due(1, [Infinity, 700, 900]), 700);
  assertSame(pace.due(1, [0]), 6);
});

Deno.test("Pace.due() backs off from a runtime that fails, up to 5 s, 1 s while urgent, until a netns is made or it answers", () => {
  const pace = new Pace();
  assertNear(pauses(pace, 0, 13_000, "failed").slice(0, 8), [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000], 0.5);
  pace.setUrgent(true);
  assertNear(pauses(pace, 20_000, 20_500, "failed"), [1_000], 0.5);
  pace.expect("cni-1", 22_000);
  pace.hurry();
  assertSame(pace.due(22_000, []), -Infinity);
  pace.looked(22_000, 22_001, "listed");
  assertSame(pace.due(22_001, []), 22_006);
});

Deno.test("Pace.quiet() is only when nothing has happened for long and nothing is waited for, and not for more than a minute", () => {
  const pace = new Pace();
  let now = 0;
  const settle = () => {
    for (let n = 0; n < 5; n++) pace.looked(now, now += 20_000, "listed");
    assertSame(pace.quiet(now, []), true);
  };
  assertSame(pace.quiet(0, []), false);
  settle();
  assertSame(pace.quiet(now, [now + 1, Infinity]), true);
  assertSame(pace.quiet(now, [now]), false);
  assertSame(pace.quiet(now + 60_000, []), false);
  pace.looked(now, now + 59_000, "pinged");
  assertSame(pace.quiet(now + 59_999, []), true);
  assertSame(pace.quiet(now + 60_000, []), false, "a ping is no list");
  const happenings = [
    () => pace.changed(),
    () => pace.setUrgent(true),
    () => pace.expect("a", now),
    () => pace.looked(now, now, "failed"),
  ];
  for (const happen of happenings) {
    happen();
    assertSame(pace.quiet(now, []), false, String(happen));
    pace.setUrgent(false);
    pace.settle("a");
    settle();
  }
});
