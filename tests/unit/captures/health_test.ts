import assert from "node:assert/strict";
import { join } from "@std/path";
import type { Capture, CaptureContext } from "../../../src/captures/capture.ts";
import { HEALTH_TIMING, RunHealth, watchHealth } from "../../../src/captures/health.ts";
import { Metrics } from "../../../src/metrics.ts";
import type { PodEvent } from "../../../src/pods/events.ts";
import { waitFor } from "../../cluster/wait.ts";
import { run } from "../../cluster/run.ts";
import { Recorder } from "../../rig/follower.ts";

/** A capture whose tcpdump answers what the test says, and what is said of it. */
function scene(tcpdump = "true") {
  const events: { uid: string; event: PodEvent }[] = [];
  const log = new Recorder();
  const metrics = new Metrics();
  let counters: { captured: number; received: number; dropped: number } | undefined;
  let looks = 0;
  const running = {
    uid: "uid-1",
    pid: 4711,
    request: { interface: "any", filter: "udp port 7" },
    netnsPath: undefined,
    health: new RunHealth(),
    seconds: 0,
    get counters() {
      looks++;
      return counters;
    },
    hopeless: (): Promise<string | undefined> => Promise.resolve(undefined),
    writesToDeletedFile: () => Promise.resolve(false),
    askCounters() {},
  };
  const capture = {
    namespace: "default",
    name: "web-0",
    pod: { uid: "uid-1" },
    running: running as typeof running | undefined,
    packetsBefore: 0,
    droppedBefore: 0,
    bytes: 0,
    fields: () => ({ pod: "default/web-0" }),
  };
  const context = {
    settings: { tcpdump, nsenter: "nsenter" },
    metrics,
    log,
    record: (pod: { uid: string }, event: PodEvent) => void events.push({ uid: pod.uid, event }),
  } as unknown as CaptureContext;
  return {
    capture,
    running,
    events,
    log,
    metrics,
    /** How often the counters were looked at. */
    looks: () => looks,
    reasons: () => events.map(({ event }) => event.reason),
    watch: (ask = false) => watchHealth(capture as unknown as Capture, context, ask),
    /** tcpdump answers. */
    counts(captured: number, received = captured, dropped = 0) {
      counters = { captured, received, dropped };
    },
  };
}

Deno.test("watchHealth() brings back no series and says nothing of a capture that ends while it looks", async () => {
  const { capture, running, counts, watch, metrics, reasons } = scene();
  counts(5, 5, 5);
  running.hopeless = () => {
    // As the queue does it when the annotation is removed.
    capture.running = undefined;
    metrics.removeCapture(capture);
    return Promise.resolve(undefined);
  };
  await watch();
  assert.doesNotMatch(await metrics.text(), /web-0/);
  assert.deepEqual(reasons(), []);
});

Deno.test("watchHealth() says once that nothing came, by an answer that is of after the silence", async () => {
  const { running, counts, watch, events, reasons } = scene();
  counts(0);
  running.seconds = HEALTH_TIMING.silence + 5;
  // The last answer may be seconds old: what has come since is not known yet.
  await watch(true);
  await watch();
  await watch(true);
  assert.equal(running.health.saidNoPackets, false);
  counts(0);
  running.seconds += 30;
  for (let i = 0; i < 3; i++) await watch();
  await waitFor("the Event", () => events.length > 0);
  await watch(true);
  counts(0);
  await watch();
  assert.deepEqual(reasons(), ["CaptureNoPackets"]);
  assert.equal(
    events[0]!.event.note,
    `No packets came in the first ${HEALTH_TIMING.silence + 5} s on interface any with filter udp port 7`,
  );
  assert.equal(events[0]!.event.type, "Normal");
});

Deno.test("watchHealth() says nothing of silence after a packet, nor too early", async () => {
  for (const [seconds, captured, received] of [[59.9, 0, 0], [61, 1, 1], [61, 0, 1]] as const) {
    const { running, counts, watch, reasons } = scene();
    counts(0);
    running.seconds = seconds;
    await watch(true);
    counts(captured, received);
    await watch();
    // Listing the interfaces takes a moment, were it said.
    assert.equal(running.health.saidNoPackets, false);
    assert.deepEqual(reasons(), []);
  }
});

Deno.test("watchHealth() tells of silence although packets came before tcpdump had set its filter", async () => {
  const { running, counts, watch, events, reasons } = scene();
  counts(0, 28);
  await watch();
  running.seconds = 61;
  await watch(true);
  // One that has come since may be one that the filter takes, in the kernel's buffer.
  for (const seconds of [62, 63]) {
    counts(0, 29);
    running.seconds = seconds;
    await watch();
    assert.equal(running.health.saidNoPackets, false);
  }
  running.seconds = 65;
  await watch(true);
  counts(0, 29);
  await watch();
  await waitFor("the Event", () => events.length > 0);
  assert.deepEqual(reasons(), ["CaptureNoPackets"]);
});

Deno.test("watchHealth() does not wait for the list of interfaces, and drops the Event if a packet comes meanwhile", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const pipe = join(dir, "pipe");
    await run(["mkfifo", pipe]);
    const tcpdump = join(dir, "tcpdump");
    await Deno.writeTextFile(tcpdump, `#!/bin/sh\nread line <${pipe}\necho "$line"\n`, { mode: 0o755 });
    for (const comes of [false, true]) {
      const { running, counts, watch, events, looks } = scene(tcpdump);
      counts(0);
      running.seconds = 61;
      await watch(true);
      counts(0);
      await watch();
      assert.equal(running.health.saidNoPackets, true);
      assert.equal(events.length, 0);
      if (comes) counts(1);
      const before = looks();
      // Open for both: it would wait for a reader that has been given up.
      using writer = await Deno.open(pipe, { read: true, write: true });
      await writer.write(new TextEncoder().encode("1.eth0 [Up, Running, Connected]\n"));
      await waitFor("another look at the counters", () => looks() > before);
      assert.equal(events.length, comes ? 0 : 1);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("watchHealth() tells dropped packets at once, then once a minute, always in the same words", async () => {
  const { running, counts, watch, events, log } = scene();
  counts(10, 10);
  await watch();
  assert.equal(events.length, 0);
  for (let dropped = 1; dropped <= 50; dropped++) {
    counts(10, 10 + dropped, dropped);
    await watch();
  }
  assert.equal(events.length, 1);
  running.health.told.at -= HEALTH_TIMING.droppedAgain;
  await watch();
  running.health.told.at -= HEALTH_TIMING.droppedAgain;
  await watch();
  assert.deepEqual(events.map(({ event }) => event.reason), ["CapturePacketsDropped", "CapturePacketsDropped"]);
  assert.equal(events[0]!.event.note, events[1]!.event.note);
  assert.equal(events[0]!.event.type, "Warning");
  const said = log.lines.filter(({ message }) => message === "packets dropped").map(({ fields }) => fields);
  assert.deepEqual(said.map(({ more, dropped, received }) => [more, dropped, received]), [[1, 1, 11], [49, 50, 60]]);
});

Deno.test("watchHealth() tells nothing of a run on a later pod of the same name", async () => {
  const { capture, counts, watch, events } = scene();
  capture.pod = { uid: "uid-2" };
  counts(10, 20, 10);
  await watch();
  assert.deepEqual(events, []);
});
