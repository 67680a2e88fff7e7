/** The plan by properties: whatever is observed, in whatever order, it comes to rest where the invariant (design, section 2) wants it. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { type Desired, desiredOf, type Observed, plan, type Step } from "../../../src/plan/plan.ts";
import { type CaptureRequest, fingerprint, processFingerprint } from "../../../src/spec/request.ts";
import type { ParsedAnnotations } from "../../../src/spec/annotations.ts";

const request = (files: number): CaptureRequest => ({
  files,
  fileSizeMB: 1,
  snaplen: 262144,
  interface: "any",
  direction: "inout",
});

/** What steps change of what is observed, and the verdict that a check finds. */
interface World extends Pick<Observed, "folder" | "process" | "removed" | "edited" | "checked"> {
  readonly verdict?: string;
}

type Outside = Omit<Observed, keyof World | "refused">;

const uid = fc.constantFrom("uid-a", "uid-b");
const asked: fc.Arbitrary<ParsedAnnotations> = fc.oneof(
  fc.constant<ParsedAnnotations>({ kind: "nothing" }),
  fc.constant<ParsedAnnotations>({ kind: "invalid", problem: "bad" }),
  fc.record({
    kind: fc.constant("valid" as const),
    request: fc.constantFrom(request(1), request(5)),
    hold: fc.boolean(),
  }),
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
/** One time in nine: what stands in the way of a capture. If each did half of the time, hardly any would run. */
const seldom = <T, U>(usual: T, other: U): fc.Arbitrary<T | U> =>
  fc.oneof({ weight: 8, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constant(other) });

const outside: fc.Arbitrary<Outside> = fc.record({
  gone: fc.boolean(),
  stopping: seldom(false, true),
  pod: maybe(fc.record({ uid, asked, isMirror: fc.boolean() })),
  sandbox: maybe(fc.record({ id: fc.constantFrom("s1", "s2"), hostNetwork: fc.boolean() })),
  allowHostNetworkPods: fc.boolean(),
  retains: fc.boolean(),
  reached: seldom(false, true),
  admission: fc.oneof(
    { weight: 8, arbitrary: fc.constant({ kind: "granted" as const }) },
    fc.constant({ kind: "queued" as const, reason: "full" }),
    fc.constant({ kind: "impossible" as const, reason: "too large" }),
  ),
  paused: seldom(undefined, "disk full"),
  backoff: seldom(undefined, "failed"),
}).map(withoutUndefined);

const world: fc.Arbitrary<World> = fc.record({
  folder: maybe(
    fc.record({ uid: maybe(uid), completed: maybe(fc.constantFrom(fingerprint(request(1)), fingerprint(request(5)))) })
      .map((f) => ({ uid: f.uid, ...(f.completed ? { completed: f.completed } : {}) })),
  ),
  process: maybe(
    fc.record({
      uid,
      fingerprint: fc.constantFrom(fingerprint(request(1)), fingerprint(request(5))),
      sandboxId: fc.constantFrom("s1", "s2"),
      flushing: seldom(undefined, "an earlier reason"),
      exited: seldom(false, true),
    }).map(withoutUndefined),
  ),
  removed: seldom(false, true),
  edited: seldom(false, true),
  checked: fc.boolean(),
  verdict: seldom(undefined, "does not compile"),
  // A process has a folder, and it is its own.
}).map(({ folder, process, ...world }) =>
  withoutUndefined({
    ...world,
    process,
    folder: process ? { ...(folder ?? {}), uid: (process as NonNullable<World["process"]>).uid } : folder,
  })
);

function withoutUndefined<T extends object>(value: T): never {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as never;
}

function observe({ verdict, ...world }: World, around: Outside): Observed {
  return { ...around, ...world, ...(world.checked && verdict !== undefined ? { refused: verdict } : {}) };
}

/** Says what a step does to the world. */
function apply(world: World, step: Step, { pod, sandbox }: Outside): World {
  switch (step.do) {
    case "reap": {
      const { process: _, ...rest } = world;
      return rest;
    }
    case "kill":
    case "flush": {
      const { flushing: _, ...process } = world.process!;
      return { ...world, process: { ...process, exited: true } };
    }
    case "retire": {
      const { folder: _, ...rest } = world;
      return rest;
    }
    case "rearm": {
      const { completed, ...folder } = world.folder ?? { uid: undefined };
      const counted = world.edited || completed === undefined ? folder : { ...folder, completed };
      return { ...world, removed: false, edited: false, ...(world.folder ? { folder: counted } : {}) };
    }
    case "check":
      return { ...world, checked: true };
    case "complete":
      return { ...world, folder: { uid: pod!.uid, completed: fingerprint(step.request) } };
    case "start": {
      assert(!world.process, "a second process for one folder");
      assert(pod && sandbox);
      assert(world.folder?.uid === undefined || world.folder.uid === pod.uid, "a start in another pod's folder");
      const process = { uid: pod.uid, fingerprint: fingerprint(step.request), sandboxId: sandbox.id, exited: false };
      return { ...world, folder: { ...world.folder, uid: pod.uid }, process };
    }
    case "settle":
      return world;
  }
}

/** Each step with what was observed before it. */
interface Taken {
  readonly step: Step;
  readonly observed: Observed;
}

function settle(start: World, around: Outside): { world: World; taken: Taken[]; desired: Desired } {
  let world = start;
  const taken: Taken[] = [];
  for (let i = 0; i < 12; i++) {
    const observed = observe(world, around);
    const step = plan(observed);
    taken.push({ step, observed });
    if (step.do === "settle") return { world, taken, desired: step.desired };
    world = apply(world, step, around);
  }
  throw new Error(`does not settle: ${JSON.stringify(taken.map(({ step }) => step.do))}`);
}

/** Asserts something of how the plan settles any world. */
function always(of: (start: World, around: Outside, settled: ReturnType<typeof settle>) => void): void {
  fc.assert(fc.property(world, outside, (start, around) => of(start, around, settle(start, around))), {
    numRuns: 20_000,
  });
}

/** Whether the pod asks for a capture, and asked for it all the time. */
function isWanted({ pod }: Outside, { removed }: World): boolean {
  return pod !== undefined && pod.asked.kind !== "nothing" && !removed;
}

/** A pod that asks for a capture, in the way of which nothing stands. */
const READY: Observed = {
  gone: false,
  stopping: false,
  pod: { uid: "u", asked: { kind: "valid", request: request(5), hold: false }, isMirror: false },
  removed: false,
  edited: false,
  checked: true,
  sandbox: { id: "s", hostNetwork: false },
  allowHostNetworkPods: false,
  retains: false,
  reached: false,
  admission: { kind: "granted" },
};
/** Undefined: without it. */
type Change = { readonly [K in keyof Observed]?: Observed[K] | undefined };
const ready = (change: Change): Observed => withoutUndefined({ ...READY, ...change });
const asking = (asked: ParsedAnnotations, isMirror = false): Change => ({ pod: { uid: "u", asked, isMirror } });
const NOTHING = asking({ kind: "nothing" });
const INVALID = asking({ kind: "invalid", problem: "bad" });
const HELD = asking({ kind: "valid", request: request(5), hold: true });
const TIMED = asking({ kind: "valid", request: { ...request(5), durationSeconds: 60 }, hold: false });
const OWN: Change = { folder: { uid: "u" } };
const ANOTHERS: Change = { folder: { uid: "v" } };
const process = (change: Partial<NonNullable<Observed["process"]>> = {}): Change => ({
  ...OWN,
  process: { uid: "u", fingerprint: processFingerprint(request(5)), sandboxId: "s", exited: false, ...change },
});
const settled = (state: Desired["state"], reason = ""): Step => ({ do: "settle", desired: { state, reason } });
const NO_POD: Change = { pod: undefined };
const EARLIER_FILES = settled("pending", "files of an earlier pod of this name are there");
const REQUESTED = { request: request(5) };
const HOST: Change = { sandbox: { id: "s", hostNetwork: true } };
const OWN_NETWORK = "the pod uses the node's network, which would record the node and every process on it; " +
  "it must have a network of its own, or the chart's allowHostNetworkPods must be true";
const MIRROR =
  "no static pod of this namespace and name runs here with the UID that annotation kubernetes.io/config.mirror names";
const STOPPED = "bad; the capture that ran is stopped, and its files are kept while the annotation is there";
const RAN: Change = { folder: { uid: "u", hasRun: true } };

Deno.test("plan() decides each case of its table", () => {
  const cases: [change: Change, step: Step][] = [
    // What runs.
    [process({ exited: true }), { do: "reap" }],
    [process({ uid: "v" }), { do: "kill", why: "another pod has the name" }],
    [{ ...process(), ...NO_POD, retains: true, gone: true }, { do: "flush", why: "pod deleted" }],
    [{ ...process(), ...NO_POD }, { do: "flush", why: "pod deleted" }],
    [{ ...process({ flushing: "before" }), ...NO_POD }, { do: "flush", why: "pod deleted" }],
    [{ ...process(), ...NO_POD, gone: true }, { do: "kill", why: "pod deleted" }],
    [{ ...process(), ...NOTHING }, { do: "kill", why: "annotation removed" }],
    [{ ...process(), ...NOTHING, retains: true }, { do: "kill", why: "annotation removed" }],
    [{ ...process({ flushing: "before" }), removed: true }, { do: "kill", why: "annotation removed" }],
    [{ ...process({ flushing: "before" }), edited: true }, { do: "flush", why: "before" }],
    [process({ flushing: "" }), { do: "flush", why: "" }],
    [{ ...process(), edited: true }, { do: "rearm" }],
    [{ ...process(), ...INVALID }, { do: "flush", why: "bad" }],
    [{ ...process(), ...INVALID, folder: { uid: "u", hasRun: true } }, { do: "flush", why: "bad" }],
    [{ ...process(), ...HELD }, { do: "flush", why: "held" }],
    [{ ...process(), reached: true }, { do: "flush", why: "completed" }],
    [{ ...process(), paused: "disk full" }, { do: "flush", why: "disk full" }],
    [{ ...process(), sandbox: undefined }, { do: "flush", why: "the pod has no running sandbox on this node" }],
    [process({ sandboxId: "t" }), { do: "flush", why: "sandbox re-created" }],
    [{ ...process({ fingerprint: "other" }), checked: false }, { do: "check", ...REQUESTED }],
    [process({ fingerprint: "other" }), { do: "flush", why: "annotation changed" }],
    [process(), settled("capturing")],
    [{ ...process(), ...TIMED }, settled("capturing")],
    // What is left of an earlier one.
    [ANOTHERS, { do: "retire", podGone: true }],
    [{ ...ANOTHERS, removed: true }, { do: "retire", podGone: true }],
    [{ ...ANOTHERS, stopping: true }, EARLIER_FILES],
    [{ ...ANOTHERS, ...NOTHING, stopping: true }, EARLIER_FILES],
    [{ ...OWN, ...NO_POD, gone: true }, { do: "retire", podGone: true }],
    [{ ...OWN, ...NO_POD, gone: true, stopping: true }, settled("none")],
    [{ ...OWN, ...NO_POD }, settled("none")],
    [{ ...OWN, ...NOTHING }, { do: "retire", podGone: false }],
    [{ ...OWN, ...NOTHING, stopping: true }, settled("none")],
    [{ ...OWN, removed: true }, { do: "retire", podGone: false }],
    [{ folder: { uid: undefined }, ...NOTHING }, { do: "retire", podGone: false }],
    [{ folder: { uid: undefined } }, { do: "start", ...REQUESTED }],
    // Nothing is wanted, or it is wanted again.
    [NO_POD, settled("none")],
    [{ ...NO_POD, removed: true }, settled("none")],
    [{ ...NO_POD, removed: true, edited: true }, settled("none")],
    [NOTHING, settled("none")],
    [{ ...NOTHING, removed: true }, settled("none")],
    [{ removed: true }, { do: "rearm" }],
    [{ ...INVALID, removed: true }, { do: "rearm" }],
    [{ edited: true, checked: false }, { do: "rearm" }],
    // The verdict.
    [{ checked: false }, { do: "check", ...REQUESTED }],
    [{ checked: false, ...HELD }, { do: "check", ...REQUESTED }],
    [{ checked: false, ...INVALID }, settled("rejected", "bad")],
    [{ checked: false, sandbox: undefined }, settled("pending", "the pod has no running sandbox on this node")],
    [{ checked: false, stopping: true }, settled("pending", "the controller is stopping")],
    [{ checked: false, backoff: "failed" }, settled("failing", "failed")],
    // Completed.
    [{ ...OWN, reached: true }, { do: "complete", ...REQUESTED }],
    [{ folder: { uid: "u", completed: "other" }, reached: true }, { do: "complete", ...REQUESTED }],
    [{ folder: { uid: "u", completed: fingerprint(request(5)) } }, settled("completed")],
    [{ folder: { uid: "u", completed: fingerprint(request(1)) } }, { do: "start", ...REQUESTED }],
    [{ reached: true }, settled("completed")],
    // Each thing that stands in the way, before the next one.
    [{ ...INVALID, refused: "refused" }, settled("rejected", "bad")],
    [{ refused: "refused", reached: true }, settled("rejected", "refused")],
    [{ ...HELD, reached: true }, settled("completed")],
    [{ ...HELD, ...HOST }, settled("held")],
    [{ ...HOST, admission: { kind: "impossible", reason: "too large" } }, settled("rejected", OWN_NETWORK)],
    [{ ...HOST, allowHostNetworkPods: true }, { do: "start", ...REQUESTED }],
    [{ admission: { kind: "impossible", reason: "too large" }, sandbox: undefined }, settled("rejected", "too large")],
    [{ sandbox: undefined, awaits: "as the API says" }, settled("pending", "as the API says")],
    [{ sandbox: undefined, hasFinished: true, awaits: "it ended" }, settled("finished", "it ended")],
    [{ ...asking(READY.pod!.asked, true), sandbox: undefined, awaits: "x" }, settled("pending", MIRROR)],
    [
      { ...asking(READY.pod!.asked, true), sandbox: undefined, awaits: "x", hasFinished: true },
      settled("finished", "x"),
    ],
    [{ stopping: true, paused: "disk full" }, settled("pending", "the controller is stopping")],
    [{ paused: "disk full", admission: { kind: "queued", reason: "full" } }, settled("paused", "disk full")],
    [{ admission: { kind: "queued", reason: "full" }, backoff: "failed" }, settled("waiting", "full")],
    [{ backoff: "failed" }, settled("failing", "failed")],
    // What a refused edit did to the capture.
    [{ ...INVALID, ...RAN }, settled("rejected", STOPPED)],
    [{ ...INVALID, ...OWN }, settled("rejected", "bad")],
    [{ ...INVALID, folder: { uid: "v", hasRun: true }, stopping: true }, EARLIER_FILES],
    [{ ...HELD, ...RAN }, settled("held")],
    [{}, { do: "start", ...REQUESTED }],
  ];
  for (const [change, step] of cases) assertEquals(plan(ready(change)), step, JSON.stringify(change));
  const before = ready({ ...INVALID, folder: { uid: "v", hasRun: true } });
  assertEquals(desiredOf(before), { state: "rejected", reason: "bad" }, "the capture that ran was another pod's");
});

Deno.test("plan() settles within twelve steps from any state, and then changes nothing", () => {
  always((_, around, { world }) => {
    assertEquals(settle(world, around).taken.map(({ step }) => step.do), ["settle"]);
  });
});

Deno.test("plan(), settled, has a process exactly when the invariant wants one", () => {
  always((_, around, { world }) => {
    const { pod, sandbox } = around;
    const wanted = pod?.asked.kind === "valid" && !pod.asked.hold && sandbox !== undefined && !around.reached &&
      (!sandbox.hostNetwork || around.allowHostNetworkPods) && around.admission.kind === "granted" &&
      around.paused === undefined && world.verdict === undefined && around.backoff === undefined &&
      !around.stopping &&
      world.folder?.completed !== fingerprint(pod.asked.request) &&
      (world.folder?.uid === undefined || world.folder.uid === pod.uid);
    assertEquals(world.process !== undefined, wanted);
    if (world.process && pod?.asked.kind === "valid") {
      assertEquals({ ...world.process }, {
        uid: pod.uid,
        fingerprint: fingerprint(pod.asked.request),
        sandboxId: sandbox?.id ?? "",
        exited: false,
      });
    }
  });
});

Deno.test("plan() keeps files while a pod of their UID carries the annotation, and deletes them otherwise", () => {
  always((start, around, { world, taken }) => {
    const retired = taken.some(({ step }) => step.do === "retire");
    const { pod } = around;
    const own = start.folder && pod && (start.folder.uid === undefined || start.folder.uid === pod.uid);
    if (own && isWanted(around, start)) assert(!retired, "files of an annotated pod were taken away");
    const known = pod !== undefined || around.gone;
    if (start.folder && known && !around.stopping && !(own && isWanted(around, start))) {
      assert(retired, "files that nobody asks for were kept");
      if (world.folder) assertEquals(world.folder.uid, pod?.uid);
    }
    if (!known || around.stopping) {
      assert(!retired, "files were taken away of a pod that nobody has proven to be gone");
    }
  });
});

Deno.test("plan() kills only where the files go too, and flushes everywhere else", () => {
  always((_, { pod, retains, gone }, { taken }) => {
    for (const { step, observed: { process, removed } } of taken) {
      const mine = process && pod?.uid === process.uid && pod.asked.kind !== "nothing" && !removed;
      const kept = mine || (!pod && (retains || !gone));
      if (step.do === "kill") assert(!kept);
      if (step.do === "flush") assert(kept);
    }
  });
});

Deno.test("plan() reaps before anything else, and only what has exited", () => {
  always((_start, _around, { taken }) => {
    for (const { step, observed } of taken) assertEquals(step.do === "reap", observed.process?.exited === true);
  });
});

Deno.test("plan() lets a flush end, for the reason for which it began, unless the files are to go after all", () => {
  always((_start, _around, { taken }) => {
    for (const { step, observed: { process } } of taken) {
      if (process?.flushing === undefined || process.exited) continue;
      assert(step.do === "kill" || step.do === "flush", step.do);
      if (step.do === "flush" && step.why !== "pod deleted") assertEquals(step.why, process.flushing);
    }
  });
});

Deno.test("plan() tears down what a removed annotation had before it does anything for the one that is there again", () => {
  always((start, around, { taken }) => {
    if (!start.removed) return;
    for (const { step, observed } of taken.filter(({ observed }) => observed.removed)) {
      assert(["reap", "kill", "flush", "retire", "rearm", "settle"].includes(step.do), step.do);
      if (step.do !== "rearm" || around.pod?.asked.kind === "nothing") continue;
      assert(!observed.process, "the old process runs");
      assert(!observed.folder || around.stopping, "the old files are there");
    }
  });
});

Deno.test("plan() counts for an edited request from the start, before it judges, completes or starts it", () => {
  always((_, around, { world, taken }) => {
    for (const { step, observed } of taken) {
      if (["check", "complete", "start"].includes(step.do)) assert(!observed.edited && !observed.removed, step.do);
      if (step.do === "rearm") assert(observed.edited || observed.removed);
    }
    assert(taken.filter(({ step }) => step.do === "rearm").length <= 1);
    if (isWanted(around, world) && !(around.stopping && around.pod?.uid !== world.folder?.uid)) assert(!world.edited);
  });
});

Deno.test("plan() has a request checked before it starts, and lets what runs in the pod's sandbox go on meanwhile", () => {
  always((_start, _around, { taken }) => {
    for (const { step, observed } of taken) {
      if (step.do === "start") assert(observed.checked && observed.refused === undefined);
      if (step.do === "check") {
        assert(!observed.checked && observed.sandbox && !observed.stopping && observed.backoff === undefined);
        if (observed.process) assertEquals(observed.process.sandboxId, observed.sandbox.id);
      }
      if (step.do === "flush" && step.why === "annotation changed") assert(observed.checked);
    }
  });
});

Deno.test("desiredOf() reports finished of a pod that never gets a sandbox again, also of a mirror, and pending of no such pod", () => {
  fc.assert(
    fc.property(world, outside, fc.boolean(), (start, around, hasFinished) => {
      const { state, reason } = desiredOf({ ...observe(start, around), hasFinished, awaits: "as the API says" });
      assert(state !== (hasFinished && !around.sandbox ? "pending" : "finished"));
      if (state === "finished") assertEquals(reason, "as the API says");
    }),
    { numRuns: 20_000 },
  );
});
