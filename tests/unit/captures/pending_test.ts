/** Pods without a sandbox: the API is asked, seldom, for their node and for what they wait for. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { waitFor } from "../../support/wait.ts";
import type { Pod } from "../../../src/pods/pod.ts";
import { requestHash } from "../../../src/spec/annotations.ts";
import { World, type WorldOptions } from "./world.ts";

/** A wait that is shorter than the time between two ticks ends with the next one. */
const QUICK = { first: 1, again: 10, most: 10 };
const WAITS = "the pod has no running sandbox on this node (phase Pending); see: kubectl describe pod -n default web";
const FINISHED = "the pod has finished (Succeeded): nothing more is captured";

function start(nodeName: string | undefined, options: WorldOptions & { why?: string; hasFinished?: boolean } = {}) {
  const { why = WAITS, hasFinished = false } = options;
  return World.start({
    timing: { look: QUICK },
    ...options,
    before: (world) => {
      world.statusOf = ({ uid }: Pod) => Promise.resolve({ uid, nodeName, hasFinished, why });
      options.before?.(world);
    },
  });
}

const reason = async (world: World) =>
  JSON.parse(await Deno.readTextFile(`${world.directory.path}/.not-capturing.json`));

Deno.test("a pod of this node that waits for its sandbox is listed, gets one Event for each request, and is then captured", async () => {
  await using world = await start("node-1");
  world.annotate("web", { "": "3" });
  assertEquals(await world.told(/CapturePending/), `uid-web CapturePending: T${WAITS.slice(1)}`);
  await world.inState("web", "pending");
  const [{ reason: why, since, wanted }] = await reason(world);
  assertEquals(wanted.files, 3);
  assertEquals(why, WAITS);
  // Another reason is for list only; each request gets one Event, at once.
  world.statusOf = ({ uid }) => Promise.resolve({ uid, nodeName: "node-1", hasFinished: false, why: "another" });
  await waitFor("the other reason", async () => (await reason(world))[0].reason === "another");
  assertEquals((await reason(world))[0].since, since);
  world.annotate("web", { "": "4" });
  await world.told(/CapturePending: Another/);
  world.sandbox("web");
  await world.capturing("web");
  const hash = (value: string) => requestHash(world.pod("web", { "": value }).annotations);
  // CapturePending is no answer: the one that comes after it is not held back.
  assertEquals(world.answers, [
    `CapturePending ${hash("3")} first`,
    `CapturePending ${hash("4")} first`,
    `CaptureStarted ${hash("4")} first`,
  ]);
  const looks = world.looks.length;
  await world.annotate("web", { "": "5" });
  await world.told(/CaptureRestarted/);
  assertEquals(world.looks.length, looks);
});

Deno.test("a pod that is created again under its name gets Events and first answers of its own, though it asks for the same", async () => {
  await using world = await start("node-1");
  for (const uid of ["u1", "u2"]) {
    world.annotate("web", { "": "3" }, { uid });
    await world.told(new RegExp(`^${uid} CapturePending`));
    world.sandbox("web", `s-${uid}`, uid);
    await world.told(new RegExp(`^${uid} CaptureStarted`));
    world.gone("web", uid);
    await world.clean("web");
  }
  const hash = requestHash(world.pod("web", { "": "3" }).annotations);
  const answers = [`CapturePending ${hash} first`, `CaptureStarted ${hash} first`];
  assertEquals(world.answers, [...answers, ...answers]);
});

Deno.test("a pod that has its sandbox soon, or is another node's, is neither reported nor listed nor looked up again", async () => {
  await using world = await start("node-2");
  world.annotate("web", { "": "3" });
  world.annotate("bad", { "": "no number" });
  await waitFor("the looks", () => world.looks.length === 2);
  world.annotate("web", { "": "4" });
  world.sandbox("quick");
  world.annotate("quick", { "": "3" });
  await world.capturing("quick");
  await world.turns(3);
  assertEquals(world.looks.sort(), ["bad", "web"]);
  assertEquals(world.events.filter((event) => !event.startsWith("uid-quick CaptureStarted")), []);
  assertEquals(await world.listed(), []);
});

Deno.test("a request that is refused is reported so though its pod has no sandbox", async () => {
  await using world = await start("node-1");
  world.annotate("bad", { "": "no number" });
  await world.told(/uid-bad CaptureRejected/);
  await world.inState("bad", "rejected");
  assertEquals(world.events.length, 1);
});

Deno.test("a finished pod gets one Event as an answer, is looked up once, and gets no other after its capture or a restart", async () => {
  const world = await start("node-1", { why: FINISHED, hasFinished: true });
  world.annotate("late", { "": "3" });
  assertEquals(await world.told(/uid-late/), `uid-late CaptureStopped: T${FINISHED.slice(1)}`);
  world.sandbox("job");
  world.annotate("job", { "": "3" });
  await world.capturing("job");
  world.noSandbox("job");
  await waitFor("its end", async () => (await world.manifest("job"))?.reason === FINISHED);
  assertEquals((await world.manifest("job"))?.state, "finished");
  assert(world.files("job").length > 0);
  const events = [/late CaptureStopped/, /job CaptureStarted/, /job CaptureStopped: The pod's sandbox has ended/];
  assert(
    world.events.length === 3 && events.every((event, i) => event.test(world.events[i]!)),
    world.events.join("\n"),
  );
  assertEquals(world.looks, ["late", "job"]);

  const dir = await world.leave();
  await using again = await start("node-1", {
    why: FINISHED,
    hasFinished: true,
    dir,
    before: (world) => world.annotate("job", { "": "3" }),
  });
  await waitFor("its end", async () => {
    return again.looks.length === 1 && (await again.manifest("job"))?.reason === FINISHED;
  });
  assertEquals(again.events, []);
});

Deno.test("pods are looked up a few at a time with growing waits, and what fails is tried again and logged once", async () => {
  await using world = await start("node-1", { timing: { look: { first: 10, again: 300, most: 300 } } });
  let now = 0, most = 0;
  world.statusOf = async () => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 20));
    now--;
    throw new Error("no answer within 10 s");
  };
  const names = Array.from({ length: 12 }, (_, i) => `pod-${i}`);
  for (const name of names) world.annotate(name, { "": "1" });
  await waitFor(
    "two looks of each",
    () => names.every((name) => world.looks.filter((one) => one === name).length >= 2),
  );
  assertEquals(most, 4);
  assert(world.looks.length <= 36, `${world.looks.length} looks`);
  assertEquals(world.events, []);
  assert(world.lines.some((line) => line.startsWith("cannot find out why the pod has no sandbox")));
});

Deno.test("while the runtime does not answer, no pod is reported to have no sandbox", async () => {
  await using world = await start("node-1", {
    before: (world) => {
      world.looking = Promise.reject(new Error("the runtime does not answer"));
      world.looking.catch(() => {});
    },
  });
  world.annotate("web", { "": "3" });
  await waitFor("the first try", () => world.lines.some((line) => /why the pod has no sandbox.*not answer/.test(line)));
  assertEquals([world.looks, world.events, await world.listed()], [[], [], []]);
  world.looking = Promise.resolve();
  await world.told(/uid-web CapturePending/);
});
