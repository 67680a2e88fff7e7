/** The changes of a manifest by properties: what is counted for a request, and that nothing else changes. */
import { deepStrictEqual as assertEquals, ok as assert, strictEqual as assertSame } from "node:assert/strict";
import fc from "fast-check";
import * as changes from "../../../src/plan/manifest_changes.ts";
import { type CaptureRequest, fingerprint } from "../../../src/spec/request.ts";
import type { Manifest, Run } from "../../../src/store/manifest.ts";

const pod = {
  ...{ namespace: "default", name: "web", uid: "u-1", resourceVersion: "1", terminating: false },
  annotations: { key: "5" },
};
const sandboxId = "s";
const counters = (captured: number) => ({ captured, received: captured, dropped: 0 });

const request: fc.Arbitrary<CaptureRequest> = fc.record({
  filter: fc.constantFrom(undefined, "udp"),
  durationSeconds: fc.constantFrom(undefined, 8, 60),
  packets: fc.constantFrom(undefined, 5, 100),
}).map(({ filter, durationSeconds, packets }) => ({
  ...{ files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" },
  ...(filter === undefined ? {} : { filter }),
  ...(durationSeconds === undefined ? {} : { durationSeconds }),
  ...(packets === undefined ? {} : { packets }),
}));

/** One run: what is asked for when it begins, perhaps something else while it lasts, and what it has captured. */
const life = fc.record({
  request,
  edit: fc.option(fc.record({ request, at: fc.nat(30) }), { nil: undefined }),
  seconds: fc.nat(30),
  captured: fc.nat(50),
});
type Life = typeof life extends fc.Arbitrary<infer T> ? T : never;

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) Object.values(Object.freeze(value)).forEach(frozen);
  return value;
}

/** Carries out a run; what each function gets is frozen, so that none can change its input. */
function lived(before: Manifest | undefined, { request, edit, seconds, captured }: Life, n: number): Manifest {
  let manifest = frozen(changes.begun(before, pod, "node-1", request, { n, sandboxId }));
  if (edit) manifest = frozen(changes.recounted(manifest, edit.request, Math.min(edit.at, seconds)));
  return frozen(changes.ended(manifest, captured, seconds, { ...counters(captured), endedAt: "t", ended: "why" }));
}

const manifest: fc.Arbitrary<Manifest> = fc.array(life, { minLength: 1, maxLength: 5 })
  .map((lives) => lives.reduce<Manifest | undefined>((before, one, i) => lived(before, one, i + 1), undefined)!);

Deno.test("left() is the request's duration and packets less what was captured since they were named, whatever came before", () => {
  fc.assert(fc.property(fc.array(life, { minLength: 1, maxLength: 8 }), request, (lives, last) => {
    // The model: what is named now, and what was captured since.
    let duration: number | undefined, packets: number | undefined, seconds = 0, captured = 0, sum = 0;
    let manifest: Manifest | undefined;
    const name = (request: CaptureRequest) => {
      if (request.durationSeconds !== duration) seconds = 0;
      if (request.packets !== packets) captured = 0;
      ({ durationSeconds: duration, packets } = request);
    };
    for (const [i, one] of lives.entries()) {
      if (i === 0) ({ durationSeconds: duration, packets } = one.request);
      name(one.request);
      const at = one.edit ? Math.min(one.edit.at, one.seconds) : 0;
      seconds += at;
      if (one.edit) name(one.edit.request);
      seconds += one.seconds - at;
      // tcpdump counts the packets of a run for the request with which it began.
      if (one.request.packets === packets) captured += one.captured;
      sum += one.captured;
      manifest = lived(manifest, one, i + 1);
    }
    name(last);
    manifest = changes.recounted(manifest!, last, 0);
    assertEquals(changes.left(manifest, last, 0), {
      seconds: duration === undefined ? undefined : duration - seconds,
      packets: packets === undefined ? undefined : packets - captured,
    });
    assertSame(manifest.capturedPackets, sum);
    assertSame(manifest.capturedSeconds, lives.reduce((sum, { seconds }) => sum + seconds, 0));
  }));
});

Deno.test("recounted() counts for the request, once; the same request changes nothing", () => {
  fc.assert(fc.property(manifest, request, fc.nat(30), (before, request, seconds) => {
    const after = changes.recounted(before, request, seconds);
    assertSame(changes.countsOther(after, request), false);
    assertSame(changes.countsOtherDuration(after, request), false);
    assertSame(changes.recounted(after, request, seconds + 1), after);
    if (!changes.countsOther(before, request)) assertSame(after, before);
    assertEquals({ ...after, budget: before.budget }, { ...before, budget: before.budget });
    if (changes.countsOtherDuration(before, request)) {
      assertSame(changes.left(after, request, seconds).seconds, request.durationSeconds);
    }
  }));
});

/** A request for so many seconds and packets. */
const asking = (durationSeconds?: number, packets?: number): CaptureRequest => ({
  ...{ files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" as const },
  ...(durationSeconds === undefined ? {} : { durationSeconds }),
  ...(packets === undefined ? {} : { packets }),
});

Deno.test("isReached() is true from the very second and packet that the request names", () => {
  const run = (request: CaptureRequest, captured: number, seconds: number) =>
    changes.isReached(lived(undefined, { request, edit: undefined, seconds: 5, captured }, 1), request, seconds);
  assertEquals([run(asking(8), 0, 2), run(asking(8), 0, 3)], [false, true]);
  assertEquals([run(asking(undefined, 5), 4, 0), run(asking(undefined, 5), 5, 0)], [false, true]);
  assertSame(run(asking(), 1000, 1000), false);
});

Deno.test("countsOther() reports whether duration or packets are others than those that are counted for", () => {
  const before = lived(undefined, { request: asking(8, 5), edit: undefined, seconds: 1, captured: 1 }, 1);
  for (
    const [request, other, otherDuration] of [
      [asking(8, 5), false, false],
      [asking(8, 6), true, false],
      [asking(9, 5), true, true],
      [asking(), true, true],
    ] as const
  ) {
    assertSame(changes.countsOther(before, request), other);
    assertSame(changes.countsOtherDuration(before, request), otherDuration);
  }
  assertSame(changes.countsOther(undefined, asking(8)), false);
});

Deno.test("isReached() is that nothing is left, and never of a request other than the one that was completed", () => {
  fc.assert(fc.property(manifest, request, request, fc.nat(90), (manifest, request, other, seconds) => {
    const { seconds: time = 1, packets = 1 } = changes.left(manifest, request, seconds);
    assertSame(changes.isReached(manifest, request, seconds), time <= 0 || packets <= 0);
    if (fingerprint(other) === fingerprint(request)) return;
    assertSame(changes.isReached({ ...manifest, completed: fingerprint(other) }, request, seconds), false);
  }));
  assertSame(changes.isReached(undefined, fc.sample(request, 1)[0]!, 1000), false);
});

Deno.test("begun() counts a completed request no further for another one, but goes on for the same", () => {
  fc.assert(fc.property(manifest, request, request, (manifest, done, next) => {
    const begin = (before: Manifest) => changes.begun(before, pod, "node-1", next, { n: 9, sandboxId });
    const after = begin(frozen({ ...manifest, completed: fingerprint(done) }));
    assert(!("completed" in after));
    const isSame = fingerprint(done) === fingerprint(next);
    assertSame(after.capturedPackets, isSame ? manifest.capturedPackets : 0);
    assertSame(after.capturedSeconds, isSame ? manifest.capturedSeconds : 0);
    if (!isSame) {
      assertEquals(changes.left(after, next, 0), { seconds: next.durationSeconds, packets: next.packets });
    }
    assertEquals(after.runs.slice(0, -1), manifest.runs);
    const { startedAt: _, ...run } = after.runs.at(-1)!;
    assertEquals(run, { n: 9, sandboxId, request: next, ...counters(0) });
    const { state, reason, uid, request } = after;
    assertEquals({ state, reason, uid, request }, { state: "capturing", reason: "", uid: pod.uid, request: next });
  }));
});

Deno.test("begun() keeps the details of the 200 newest runs, and the sums of all", () => {
  const asked = fc.sample(request, 1)[0]!;
  let manifest: Manifest | undefined;
  for (let n = 1; n <= 250; n++) {
    manifest = lived(manifest, { request: asked, edit: undefined, seconds: 1, captured: 2 }, n);
  }
  assertEquals(manifest!.runs.map(({ n }) => n), Array.from({ length: 201 }, (_, i) => i + 50));
  assertEquals([manifest!.capturedSeconds, manifest!.capturedPackets], [250, 500]);
});

Deno.test("begun() enters the first run where there was none", () => {
  const first = changes.begun(undefined, pod, "node-1", asking(8), { n: 1, sandboxId });
  assertEquals([first.runs.map(({ n }) => n), first.capturedSeconds, first.capturedPackets], [[1], 0, 0]);
  const { namespace, node, annotations, version } = first;
  assertEquals([namespace, first.pod, node, annotations, version], ["default", "web", "node-1", pod.annotations, 1]);
});

Deno.test("a changed manifest is the same after it was written and read", () => {
  fc.assert(fc.property(manifest, request, fc.nat(30), (before, request, seconds) => {
    const readBack = (manifest: Manifest) => assertEquals(JSON.parse(JSON.stringify(manifest)), manifest);
    readBack(before);
    readBack(changes.recounted(before, request, seconds));
    // Of the first version, which named no budget.
    const { budget: _, ...first } = before;
    readBack(changes.recounted(first, request, seconds));
    readBack(changes.ended({ ...first, request }, 1, seconds, {}));
  }));
});

Deno.test("ended() adds to the sums also where no run is known", () => {
  const before = lived(undefined, { request: asking(8, 5), edit: undefined, seconds: 1, captured: 2 }, 1);
  const after = changes.ended({ ...before, runs: [] }, 3, 4, counters(3));
  assertEquals([after.runs, after.capturedSeconds, after.capturedPackets], [[], 5, 5]);
});

Deno.test("amended() changes the last run alone, and nothing where there is none", () => {
  fc.assert(fc.property(manifest, fc.nat(), (before, captured) => {
    const after = changes.amended(before, { captured });
    assertEquals(after.runs.slice(0, -1), before.runs.slice(0, -1));
    assertEquals(after.runs.at(-1), { ...before.runs.at(-1), captured });
    assertEquals({ ...after, runs: [] }, { ...before, runs: [] });
    const none = { ...before, runs: [] };
    assertSame(changes.amended(none, { captured }), none);
  }));
});

Deno.test("withClockStep() keeps the last run's twenty newest steps", () => {
  const step = (seconds: number) => ({ at: "2026-01-31T12:00:00.000Z", seconds });
  const steps = Array.from({ length: 30 }, (_, i) => step(i));
  fc.assert(fc.property(manifest.filter(({ runs }) => runs.length > 0), (before) => {
    const { runs } = steps.reduce<Manifest>(changes.withClockStep, before);
    assertEquals(runs.slice(0, -1), before.runs.slice(0, -1));
    assertEquals(runs.at(-1)?.clockSteps, steps.slice(10));
  }));
});

Deno.test("endedByKill() ends a run without an end at the last write, with what it had counted, and changes no other", () => {
  fc.assert(fc.property(manifest, request, fc.nat(), (before, asked, captured) => {
    assertSame(changes.endedByKill(before), before);
    const begun = changes.begun(before, pod, "node-1", asked, { n: 9, sandboxId });
    const running = { ...changes.amended(begun, counters(captured)), updatedAt: "later" };
    const after = changes.endedByKill(frozen(running));
    const { endedAt, ended, captured: counted } = after.runs.at(-1)!;
    assertEquals({ endedAt, ended, counted }, {
      endedAt: "later",
      ended: "the controller was killed",
      counted: captured,
    });
    assertSame(after.capturedPackets, running.capturedPackets + captured);
    assertSame(after.capturedSeconds, running.capturedSeconds);
  }));
});

Deno.test("withClockStep() enters a step in the last run, and keeps the newest twenty", () => {
  fc.assert(fc.property(manifest, fc.array(fc.integer(), { maxLength: 30 }), (before, seconds) => {
    const steps = seconds.map((each, i) => ({ at: new Date(i * 1000).toISOString(), seconds: each }));
    const after = steps.reduce(changes.withClockStep, before);
    assertEquals(after.runs.at(-1)!.clockSteps ?? [], steps.slice(-20));
    assertEquals(after.runs.slice(0, -1), before.runs.slice(0, -1));
  }));
  const none = changes.withClockStep({ ...fc.sample(manifest, 1)[0]!, runs: [] }, { at: "t", seconds: 1 });
  assertEquals(none.runs, []);
});

Deno.test("rearmed() counts from zero where a request was completed, and changes nothing where none was", () => {
  fc.assert(fc.property(manifest, request, (manifest, done) => {
    assertSame(changes.rearmed(manifest), manifest);
    const { budget: _, ...rest } = manifest;
    assertEquals(changes.rearmed({ ...manifest, completed: fingerprint(done) }), {
      ...rest,
      capturedSeconds: 0,
      capturedPackets: 0,
    });
  }));
});

Deno.test("settled() enters the state, and keeps the last request where the present one is invalid", () => {
  fc.assert(fc.property(manifest, fc.option(request, { nil: undefined }), (before, asked) => {
    const since = new Date(0);
    assertSame(changes.settled(before, pod, asked, { state: "none", reason: "" }, since), before);
    assertEquals(changes.settled(before, pod, asked, { state: "held", reason: "why" }, since), {
      ...{ ...before, annotations: pod.annotations, state: "held", reason: "why" },
      ...{ since: since.toISOString(), request: asked ?? before.request },
    });
  }));
});

Deno.test("retained() keeps all that is known; without a manifest each folder gets a UID of its own", () => {
  const whose = { namespace: "default", pod: "web", node: "node-1" };
  fc.assert(fc.property(manifest, (before) => {
    const { state, reason, retainedSeconds, since: _, ...rest } = changes.retained(before, whose);
    assertEquals({ state, reason, retainedSeconds }, {
      ...{ state: "retained", reason: "the pod was deleted", retainedSeconds: 0 },
    });
    const { state: __, reason: ___, since: ____, ...known } = before;
    assertEquals(rest, known);
  }));
  const [one, other] = [changes.retained(undefined, whose), changes.retained(undefined, whose)];
  assert(one.uid !== other.uid);
  assertEquals([one.namespace, one.pod, one.node, one.runs, one.state], ["default", "web", "node-1", [], "retained"]);
  assert(one.reason.includes("capture.json was damaged"), one.reason);
});

Deno.test("withRunsOf() drops the runs without a file, but for the last two", () => {
  const runs = (ns: readonly number[]) => ns.map((n) => ({ n }) as Run);
  const after = (ns: readonly number[], files: readonly string[]) =>
    changes.withRunsOf({ runs: runs(ns) } as unknown as Manifest, files.map((name) => ({ name }))).runs.map(({ n }) =>
      n
    );
  const file = (n: number) => `run-${String(n).padStart(6, "0")}-000001.pcap`;
  assertEquals(after([1, 2, 3, 4, 5], [file(2)]), [2, 4, 5]);
  assertEquals(after([1, 2, 3], []), [2, 3]);
  assertEquals(after([1, 2], []), [1, 2]);
  const all = { runs: runs([1, 2, 3]) } as unknown as Manifest;
  assertSame(changes.withRunsOf(all, [{ name: file(1) }]), all);
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 30 })), fc.subarray([1, 2, 3, 4, 5, 6]), (ns, there) => {
      const all = ns.toSorted((a, b) => a - b);
      const kept = all.filter((n, i) => there.includes(n) || i >= all.length - 2);
      assertEquals(after(all, there.map(file)), kept);
    }),
  );
});
