/** One capture from its first request to its last file, with a script for tcpdump: its steps, Events and manifests. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../../support/wait.ts";
import { Run } from "../../../src/tcpdump/run.ts";
import { requestHash } from "../../../src/spec/annotations.ts";
import { exists, KEY, World } from "./world.ts";

/** The second words of Events: their reasons. */
const reasons = ({ events }: World) => events.map((event) => event.split(/[ :]/)[1]);

/** Starts a world with one capture that runs. */
async function capturing(
  annotations: Record<string, string> = { "": "3" },
  env: Record<string, string> = {},
): Promise<World> {
  const world = await World.start({ env });
  world.sandbox("web");
  world.annotate("web", annotations);
  // With so many packets and no more it may be over before the test looks.
  if (annotations["packets"] === undefined) await world.capturing("web");
  else await world.told(/CaptureStarted/);
  return world;
}

/** Ends in the middle of a record. */
async function tear(path: string): Promise<void> {
  using file = await Deno.open(path, { append: true });
  await file.write(new Uint8Array(7));
}

Deno.test("a restart of the controller reports nothing again, and keeps the time of the state", async () => {
  await using world = await World.start();
  for (const [name, annotations] of [["done", { "": "3", packets: "7" }], ["bad", { "": "3" }]] as const) {
    world.sandbox(name);
    world.annotate(name, annotations);
  }
  await world.capturing("bad");
  world.annotate("bad", { "": "x" });
  await world.inState("bad", "rejected");
  await world.inState("done", "completed");
  const since = [(await world.manifest("done"))!.since, (await world.manifest("bad"))!.since];
  const dir = await world.leave();
  await using again = await World.start({
    dir,
    before: (again) => {
      for (
        const [name, annotations] of [["done", { "": "3", packets: "7" }], ["bad", { "": "x" }], ["next", {
          "": "3",
        }]] as const
      ) {
        again.sandbox(name);
        again.annotate(name, annotations as Record<string, string>);
      }
    },
  });
  await again.capturing("next");
  assertEquals(reasons(again), ["CaptureStarted"]);
  assertEquals([(await again.manifest("done"))!.since, (await again.manifest("bad"))!.since], since);
  // A change is reported.
  again.annotate("bad", { "": "y" });
  await again.told(/uid-bad CaptureRejected/);
  again.annotate("done", { "": "3", packets: "8" });
  await again.told(/uid-done CaptureRestarted: .*the controller was restarted; not captured since 20/);
});

/** Returns the first answers to requests, without the Events that follow. */
const firstAnswers = ({ answers }: World) => answers.filter((each) => each.endsWith(" first"));
const hashOf = (annotations: Record<string, string>) =>
  requestHash(Object.fromEntries(Object.entries(annotations).map(([k, v]) => [k === "" ? KEY : `${KEY}/${k}`, v])));

Deno.test("each request is answered by an Event with its hash, also one that repeats an earlier one or restarts nothing", async () => {
  await using world = await capturing({ "": "3" });
  const plain = hashOf({ "": "3" }), timed = hashOf({ "": "3", duration: "1h" }), wrong = hashOf({ "": "x" });
  assertEquals(firstAnswers(world), [`CaptureStarted ${plain} first`]);
  world.annotate("web", { "": "3", duration: "1h" });
  await world.told(/CaptureStarted.*for 1h; tcpdump goes on as it is/);
  assertEquals((await world.manifest("web"))!.runs.length, 1);
  world.annotate("web", { "": "x" });
  await world.told(/CaptureRejected/);
  world.annotate("web", { "": "3" });
  await world.told(/CaptureRestarted/);
  assertEquals(firstAnswers(world), [
    `CaptureStarted ${plain} first`,
    `CaptureStarted ${timed} first`,
    `CaptureRejected ${wrong} first`,
    `CaptureRestarted ${plain} first`,
  ]);
  // The row in list is of the request that was answered.
  assertEquals(requestHash((await world.manifest("web"))!.annotations), plain);
});

Deno.test("a request that changes while the capture rests in one state is answered too", async () => {
  await using world = await World.start({ env: { MAX_CAPTURES: "1" } });
  for (const name of ["first", "web"]) world.sandbox(name);
  world.annotate("first", { "": "3" });
  await world.capturing("first");
  world.annotate("web", { "": "3" });
  await world.told(/CaptureWaiting/);
  world.annotate("web", { "": "4" });
  await world.told(/CaptureWaiting/, 2);
  const waiting = firstAnswers(world).filter((each) => each.startsWith("CaptureWaiting"));
  assertEquals(waiting, [
    `CaptureWaiting ${hashOf({ "": "3" })} first`,
    `CaptureWaiting ${hashOf({ "": "4" })} first`,
  ]);
});

Deno.test("start_duration_seconds is of what was asked for, not of each tcpdump that is started", async () => {
  await using world = await capturing();
  const count = async () => Number(/start_duration_seconds_count (\d+)/.exec(await world.metrics.text())?.[1]);
  assertEquals(await count(), 1);
  world.sandbox("web", "s2");
  await world.capturing("web", 2);
  assertEquals(await count(), 1);
  world.annotate("web", { "": "4" });
  await world.capturing("web", 3);
  assertEquals(await count(), 2);
});

Deno.test("a failure in one sandbox causes no back-off in another", async () => {
  // Longer than the test waits for anything.
  await using world = await World.start({ timing: { retry: { first: 60_000, most: 60_000 } } });
  world.steer("fail", "boom");
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.told(/CaptureFailed/);
  world.steer("fail", undefined);
  world.sandbox("web", "s2");
  await world.capturing("web");
});

Deno.test("a request without a folder is listed, also if its sandbox comes later", async () => {
  await using world = await World.start();
  world.annotate("bad", { "": "x" });
  world.annotate("held", { "": "3", hold: "true" });
  await waitFor(
    "a look at them",
    () => world.lines.filter((line) => /^capture (rejected|held)/.test(line)).length === 2,
  );
  assertEquals(await world.listed(), []);
  for (const name of ["bad", "held"]) world.sandbox(name);
  await waitFor("both in the list", async () => (await world.listed()).length === 2, { everyMs: 5 });
  assertEquals(await world.listed(), ["bad:rejected", "held:held"]);
});

Deno.test("the list is written again after a write that failed", async () => {
  await using world = await World.start();
  await waitFor("the first list", () => exists(join(world.directory.path, ".not-capturing.json")), { everyMs: 5 });
  const { rename } = Deno;
  let failures = 0;
  Deno.rename = (from, to) => {
    if (!String(to).endsWith(".not-capturing.json") || failures > 0) return rename(from, to);
    failures++;
    return Promise.reject(new Error("No space left on device"));
  };
  try {
    world.sandbox("bad");
    world.annotate("bad", { "": "x" });
    await waitFor("a failure", () => world.lines.some((line) => line.startsWith("report not written")), { everyMs: 5 });
    await world.inState("bad", "rejected");
  } finally {
    Deno.rename = rename;
  }
});

Deno.test("a pod of the same name with the same fault gets an Event of its own, and its numbers begin at zero", async () => {
  await using world = await capturing();
  world.annotate("web", { "": "x" });
  await world.told(/^uid-web CaptureRejected/);
  // Both come in one turn, as from a list.
  const owner = { namespace: "default", name: "web", uid: "uid-2" };
  world.sandboxes.set("uid-2", { ...world.sandboxes.get("uid-web")!, id: "s2", owner });
  world.gone("web");
  world.annotate("web", { "": "x" }, { uid: "uid-2" });
  await world.told(/^uid-2 CaptureRejected/);
  world.annotate("web", { "": "3" }, { uid: "uid-2" });
  await world.told(/^uid-2 CaptureStarted/);
  await waitFor(
    "its packets",
    async () => / 7$/m.test((await world.metrics.text()).match(/packets_total\{.*/)?.[0] ?? ""),
  );
});

Deno.test("an annotation that is removed and set again starts a new capture, however quickly", async () => {
  await using world = await capturing({ "": "3", packets: "7" });
  await world.inState("web", "completed");
  world.annotate("web", {});
  world.annotate("web", { "": "3", packets: "7" });
  await world.told(/CaptureCompleted/, 2);
  await world.inState("web", "completed");
  assertEquals(reasons(world), [
    "CaptureStarted",
    "CaptureCompleted",
    "CaptureStopped",
    "CaptureStarted",
    "CaptureCompleted",
  ]);
  assertEquals((await world.manifest("web"))?.runs.length, 1);
  assertEquals((await world.manifest("web"))?.capturedPackets, 7);
});

Deno.test("a removed annotation is answered with what was deleted, one file as one", async () => {
  for (
    const [files, deleted] of [["1", /: deleted 1 file \(\d+ B\)$/], ["3", /: deleted 3 files \(\d+ B\)$/]] as const
  ) {
    await using world = await capturing({ "": files });
    world.annotate("web", {});
    const stopped = await world.told(/CaptureStopped: Annotation removed/);
    assert(deleted.test(stopped), stopped);
  }
});

Deno.test("a completed request that was edited and restored starts again, though the edit never started", async () => {
  await using world = await capturing({ "": "3", packets: "7" });
  await world.inState("web", "completed");
  world.annotate("web", { "": "3", packets: "8", hold: "true" });
  world.annotate("web", { "": "3", packets: "7", hold: "true" });
  world.annotate("web", { "": "3", packets: "7" });
  await world.told(/CaptureRestarted: .*: completed; not captured since 20/);
  await world.told(/CaptureCompleted/, 2);
});

Deno.test("files of a killed run that stay after all are repaired: the run has an end, and its last record is whole", async () => {
  await using world = await capturing();
  await waitFor("counters", async () => (await world.manifest("web"))?.runs[0]?.captured === 7);
  const newest = join(world.folder("web"), "capture-web.pcap2");
  await tear(newest);
  // The controller is stopped before its files are deleted.
  world.directory.removeFolder = () => Promise.reject(new Error("busy"));
  world.annotate("web", {});
  // Not one that is tried again at once: the stop would come during that, and repair nothing.
  const failed = /^reconcile failed .*"retryInMs":[1-9]/;
  await waitFor("the kill", () => world.lines.some((line) => failed.test(line)), { everyMs: 5 });
  assertEquals((await Deno.stat(newest)).size, 48);
  await world.stop();
  const run = (await world.manifest("web"))?.runs[0];
  assert(run?.endedAt !== undefined);
  assertEquals([run.ended, run.captured], ["annotation removed", 7]);
  assertEquals((await Deno.stat(newest)).size, 41);
});

Deno.test("a pod that is deleted while its sandbox lives is flushed where its files are retained", async () => {
  await using world = await capturing({ "": "3" }, { RETENTION_AFTER_POD_DELETION: "1h" });
  world.gone("web");
  await world.clean("web");
  const manifest = JSON.parse(
    await Deno.readTextFile(join(world.directory.path, ".retained", "uid-web", "capture.json")),
  );
  assertEquals([manifest.state, manifest.runs[0].captured, manifest.runs[0].ended], ["retained", 7, "pod deleted"]);
});

Deno.test("nothing waits for a flush once the files are to be deleted, nor does the next pod of the name", async () => {
  const { flush } = Run.prototype;
  try {
    for (const next of ["un-annotated", "gone", "replaced"]) {
      await using world = await capturing();
      const began = Promise.withResolvers<void>();
      // The kernel's last packets never come.
      Run.prototype.flush = async function () {
        began.resolve();
        return await waitFor("the end", () => this.exit, { everyMs: 5 });
      };
      world.annotate("web", { "": "4" });
      await began.promise;
      if (next === "un-annotated") world.annotate("web", {});
      else world.gone("web");
      if (next === "replaced") {
        world.sandbox("web", "s2", "uid-2");
        world.annotate("web", { "": "3" }, { uid: "uid-2" });
        await world.told(/^uid-2 CaptureStarted/);
      } else {
        await world.clean("web");
      }
      Run.prototype.flush = flush;
    }
  } finally {
    Run.prototype.flush = flush;
  }
});

Deno.test("a pod gets no Event about the start of an earlier one's tcpdump", async () => {
  await using world = await World.start();
  const { kill } = Run.prototype;
  world.steer("mute", "");
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.inState("web", "capturing");
  // Its Event comes when the capture is not wanted any more.
  Run.prototype.kill = async function (...args) {
    world.steer("mute", undefined);
    await waitFor("the word", () => world.lines.some((line) => line.includes("listening on")), { everyMs: 5 });
    return await kill.apply(this, args);
  };
  try {
    world.gone("web");
    world.sandbox("web", "s2", "uid-2");
    world.annotate("web", { "": "x" }, { uid: "uid-2" });
    await world.told(/^uid-2 CaptureRejected/);
    assertEquals(reasons(world), ["CaptureRejected"]);
  } finally {
    Run.prototype.kill = kill;
  }
});

Deno.test("a torn record is cut off in the file that was written to, also if a reader has set it aside", async () => {
  await using world = await capturing();
  const folder = world.folder("web");
  const sizes = () => world.files("web").map((name) => Deno.statSync(join(folder, name)).size);
  await Deno.rename(join(folder, "capture-web.pcap0"), join(folder, "run-000001-000000.pcap"));
  for (const name of ["capture-web.pcap1", "capture-web.pcap2"]) {
    await Deno.rename(join(folder, name), join(folder, name.replace("capture-web.pcap", "run-000001-00000") + ".pcap"));
  }
  // Files that were whole before are not even read.
  for (const i of [0, 2]) await tear(join(folder, `run-000001-00000${i}.pcap`));
  assertEquals(sizes(), [48, 41, 48]);
  world.steer("fail", "boom");
  Deno.kill(world.processes()[0]!, "SIGKILL");
  await world.told(/CaptureFailed/);
  assertEquals(sizes(), [48, 41, 41]);
});

Deno.test("a folder that could not be made is deleted with the annotation", async () => {
  await using world = await World.start();
  const { makeFolder } = world.directory;
  world.directory.makeFolder = async (namespace, pod) => {
    await makeFolder.call(world.directory, namespace, pod);
    throw new Error("Too many open files");
  };
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.told(/CaptureFailed: Too many open files/);
  assert(exists(world.folder("web")));
  await waitFor("web in the list", async () => (await world.listed()).includes("web:failing"), { everyMs: 5 });
  world.annotate("web", {});
  await world.clean("web");
});

Deno.test("a folder is deleted only after the counters that are being written", async () => {
  await using world = await capturing();
  const { open } = Deno;
  const [writing, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  Deno.open = async (path, options) => {
    if (String(path).endsWith("capture.json.tmp")) {
      writing.resolve();
      await go.promise;
    }
    return await open(path, options);
  };
  try {
    await writing.promise;
    world.annotate("web", {});
    await waitFor("the kill", () => world.processes().length === 0, { everyMs: 5 });
    for (let turn = 0; turn < 50; turn++) {
      assert(exists(world.folder("web")));
      await new Promise((resolve) => setTimeout(resolve));
    }
    go.resolve();
    await world.clean("web");
  } finally {
    Deno.open = open;
  }
});

Deno.test("the runtime is asked often while something runs or is about to, and not for ever about what has finished", async () => {
  const { now } = performance;
  let later = 0;
  performance.now = () => now.call(performance) + later;
  try {
    await using world = await World.start();
    world.annotate("job", { "": "3" });
    await waitFor("the first look", () => world.urgent, { everyMs: 5 });
    later = 50_000;
    const { lastTurn } = world.captures;
    await waitFor("another turn", () => world.captures.lastTurn > lastTurn + 50_000, { everyMs: 20 });
    assert(world.urgent);
    later = 61_000;
    await waitFor("calm", () => !world.urgent, { everyMs: 20 });
    world.sandbox("job");
    await waitFor("urgency", () => world.urgent, { everyMs: 20 });
  } finally {
    performance.now = now;
  }
});

Deno.test("the controller starts though a folder cannot be adopted, and captures go on in the order in which they began", async () => {
  await using world = await World.start();
  const names = ["d", "b", "c", "a"];
  for (const name of names) {
    world.sandbox(name);
    world.annotate(name, { "": "3" });
    await world.capturing(name);
  }
  world.annotate("c", { "": "3", hold: "true" });
  await world.inState("c", "held");
  const dir = await world.leave();
  await Deno.mkdir(join(world.folder("e"), "capture.json"), { recursive: true });
  await Deno.mkdir(join(world.folder("e"), "capture.json.damaged", "x"), { recursive: true });
  await using again = await World.start({
    dir,
    env: { MAX_CAPTURES: "2" },
    before: (again) => {
      for (const name of ["c", "a", "b", "d"]) {
        again.sandbox(name);
        again.annotate(name, { "": "3" });
      }
    },
  });
  for (const [name, state] of [["a", "waiting"], ["c", "waiting"], ["d", "capturing"], ["b", "capturing"]] as const) {
    await again.inState(name, state);
  }
  again.annotate("d", {});
  // c was held then, so that it does not come before those that ran.
  await again.told(/^uid-a CaptureRestarted/);
});

Deno.test("a refused edit says that it has stopped the capture and what becomes of its files, in list and after a restart too", async () => {
  const world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  world.steer("check", `echo "tcpdump: can't parse filter expression: syntax error" >&2; exit 1`);
  world.annotate("web", { "": "3", filter: "tcp prot 80" });
  const told = await world.told(/CaptureRejected/);
  const says = /the capture that ran is stopped, and its files are kept while the annotation is there$/;
  assert(/filter does not compile: .*syntax error/.test(told) && says.test(told), told);
  await world.inState("web", "rejected");
  assert(says.test((await world.manifest("web"))?.reason ?? ""));
  assert(world.files("web").length > 0);
  // Where nothing ran, nothing is stopped.
  world.sandbox("db");
  world.annotate("db", { "": "no number" });
  const other = await world.told(/uid-db CaptureRejected/);
  assert(!says.test(other), other);

  const dir = await world.leave();
  await using again = await World.start({
    dir,
    before: (world) => {
      world.sandbox("web");
      world.annotate("web", { "": "3", filter: "tcp prot 80" });
    },
  });
  again.sandbox("late");
  again.annotate("late", { "": "no number" });
  await again.told(/uid-late CaptureRejected/);
  await again.inState("web", "rejected");
  assert(says.test((await again.manifest("web"))?.reason ?? ""));
  assertEquals(again.events.filter((event) => event.startsWith("uid-web")), []);
});
