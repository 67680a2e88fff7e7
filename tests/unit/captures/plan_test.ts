/** The plan by properties: whatever is observed, in whatever order, it comes to rest where the invariant (design, section 2) wants it. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { goalOf, plan, type Step, type View } from "../../../src/captures/plan.ts";
import { type CaptureRequest, fingerprint } from "../../../src/spec/request.ts";
import type { Asked } from "../../../src/spec/annotations.ts";

const request = (files: number): CaptureRequest => ({
  files,
  fileSizeMB: 1,
  snaplen: 262144,
  interface: "any",
  direction: "inout",
});

/** What is there: the part of a View that steps change. */
interface World {
  folder?: { uid: string | undefined; completed?: string };
  process?: { uid: string; fingerprint: string; sandboxId: string };
}

type Outside = Omit<View, "folder" | "process">;

const uid = fc.constantFrom("uid-a", "uid-b");
const asked: fc.Arbitrary<Asked> = fc.oneof(
  fc.constant<Asked>({ kind: "nothing" }),
  fc.constant<Asked>({ kind: "invalid", problem: "bad" }),
  fc.record({
    kind: fc.constant("valid" as const),
    request: fc.constantFrom(request(1), request(5)),
    hold: fc.boolean(),
  }),
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
/** One time in nine: what stands in the way of a capture. If each did half of the time, hardly any view would have one running. */
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
  room: fc.oneof(
    { weight: 8, arbitrary: fc.constant({ kind: "yes" as const }) },
    fc.constant({ kind: "wait" as const, reason: "full" }),
    fc.constant({ kind: "never" as const, reason: "too large" }),
  ),
  refused: seldom(undefined, "does not compile"),
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
    }),
  ),
  // A process has a folder, and it is its own.
}).map(({ folder, process }) =>
  withoutUndefined({ process, folder: process ? { ...(folder ?? {}), uid: process.uid } : folder }) as World
);

function withoutUndefined<T extends object>(value: T): never {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as never;
}

/** What a step does to the world. */
function apply(world: World, step: Step, view: View): World {
  switch (step.do) {
    case "kill":
    case "flush": {
      const { process: _, ...rest } = world;
      return rest;
    }
    case "retire":
      return {};
    case "complete":
      return { ...world, folder: { uid: view.pod?.uid, completed: fingerprint(step.request) } };
    case "start": {
      assert(!world.process, "a second process for one folder");
      assert(view.pod && view.sandbox);
      assert(world.folder?.uid === undefined || world.folder.uid === view.pod.uid, "a start in another pod's folder");
      return {
        folder: { ...world.folder, uid: view.pod.uid },
        process: { uid: view.pod.uid, fingerprint: fingerprint(step.request), sandboxId: view.sandbox.id },
      };
    }
    case "rest":
      return world;
  }
}

function settle(start: World, around: Outside): { world: World; steps: Step[]; view: View } {
  let world = start;
  const steps: Step[] = [];
  for (let i = 0; i < 10; i++) {
    const view: View = { ...around, ...world };
    const step = plan(view);
    steps.push(step);
    if (step.do === "rest") return { world, steps, view };
    world = apply(world, step, view);
  }
  throw new Error(`does not come to rest: ${JSON.stringify(steps.map((s) => s.do))}`);
}

Deno.test("plan() comes to rest within ten steps from any state, and then changes nothing", () => {
  fc.assert(
    fc.property(world, outside, (start, around) => {
      const { world } = settle(start, around);
      assertEquals(settle(world, around).steps.map((step) => step.do), ["rest"]);
    }),
    { numRuns: 20_000 },
  );
});

Deno.test("plan() at rest has a process exactly when the invariant wants one", () => {
  fc.assert(
    fc.property(world, outside, (start, around) => {
      const { world } = settle(start, around);
      const { pod, sandbox } = around;
      const wanted = pod?.asked.kind === "valid" && !pod.asked.hold && sandbox !== undefined && !around.reached &&
        (!sandbox.hostNetwork || around.allowHostNetworkPods) && around.room.kind === "yes" &&
        around.paused === undefined && around.refused === undefined && around.backoff === undefined &&
        !around.stopping &&
        world.folder?.completed !== fingerprint(pod.asked.request) &&
        (world.folder?.uid === undefined || world.folder.uid === pod.uid);
      assertEquals(world.process !== undefined, wanted);
      if (world.process && pod?.asked.kind === "valid") {
        assertEquals({ ...world.process }, {
          uid: pod.uid,
          fingerprint: fingerprint(pod.asked.request),
          sandboxId: sandbox?.id ?? "",
        });
      }
    }),
    { numRuns: 20_000 },
  );
});

Deno.test("plan() keeps files while a pod of their UID carries the annotation, and deletes them otherwise", () => {
  fc.assert(
    fc.property(world, outside, (start, around) => {
      const { world, steps } = settle(start, around);
      const { pod } = around;
      const own = start.folder && pod && (start.folder.uid === undefined || start.folder.uid === pod.uid);
      const retired = steps.some((step) => step.do === "retire");
      if (own && pod.asked.kind !== "nothing") assert(!retired, "files of an annotated pod were taken away");
      const known = pod !== undefined || around.gone;
      if (start.folder && known && !around.stopping && !(own && pod.asked.kind !== "nothing")) {
        assert(retired, "files that nobody asks for were kept");
        if (world.folder) assertEquals(world.folder.uid, pod?.uid);
      }
      if (!known || around.stopping) {
        assert(!retired, "files were taken away of a pod that nobody has proven to be gone");
      }
    }),
    { numRuns: 20_000 },
  );
});

Deno.test("plan() kills only where the files go too, and flushes everywhere else", () => {
  fc.assert(
    fc.property(world, outside, (start, around) => {
      const first = plan({ ...around, ...start });
      const { pod, retains, gone } = around;
      const mine = start.process && pod?.uid === start.process.uid && pod.asked.kind !== "nothing";
      const kept = mine || (!pod && (retains || !gone));
      if (first.do === "kill") assert(!kept);
      if (first.do === "flush") assert(kept);
    }),
    { numRuns: 20_000 },
  );
});

Deno.test("goalOf() says finished of a pod that never gets a sandbox again, also of a mirror, and pending of no such pod", () => {
  fc.assert(
    fc.property(outside, fc.boolean(), (around, hasFinished) => {
      const { state, reason } = goalOf({ ...around, hasFinished, awaits: "as the API says" });
      assert(state !== (hasFinished && !around.sandbox ? "pending" : "finished"));
      if (state === "finished") assertEquals(reason, "as the API says");
    }),
    { numRuns: 20_000 },
  );
});

Deno.test("goalOf() says the reason when a pod uses the node's network", () => {
  const goal = goalOf({
    gone: false,
    stopping: false,
    pod: { uid: "u", asked: { kind: "valid", request: request(5), hold: false }, isMirror: false },
    sandbox: { id: "s", hostNetwork: true },
    allowHostNetworkPods: false,
    retains: false,
    reached: false,
    room: { kind: "yes" },
  });
  assertEquals(goal.state, "rejected");
  assert(goal.reason.includes("allowHostNetworkPods"));
});
