/** What is found of a run, and what is told of it. */
import assert from "node:assert/strict";
import { RunHealth } from "../../../src/tcpdump/health.ts";
import { Run } from "../../../src/tcpdump/run.ts";
import { CAPTURE_TIMING } from "../../../src/timing.ts";
import { waitFor } from "../../support/wait.ts";
import { World } from "../captures/world.ts";

/** A run whose tcpdump answers what the test says. */
function scene() {
  const health = new RunHealth(CAPTURE_TIMING.health);
  const run = {
    seconds: 0,
    counters: undefined as { captured: number; received: number; dropped: number } | undefined,

    hopeless: (): Promise<string | undefined> => Promise.resolve(undefined),
    writesToDeletedFile: () => Promise.resolve(false),
  };
  return {
    run,
    look: (ask = false) => health.look(run, ask),
    /** tcpdump answers. */
    counts(captured: number, received = captured, dropped = 0) {
      run.counters = { captured, received, dropped };
    },
  };
}

Deno.test("RunHealth.look() finds nothing before tcpdump has answered", async () => {
  const { look } = scene();
  for (const ask of [false, true, false]) assert.deepEqual(await look(ask), []);
});

Deno.test("RunHealth.look() finds a run hopeless by itself, or when its file was deleted, and nothing else then", async () => {
  const { run, look, counts } = scene();
  counts(10, 20, 10);
  run.writesToDeletedFile = () => Promise.resolve(true);
  assert.deepEqual(await look(true), [{ is: "hopeless", why: "the file it wrote to was deleted" }]);
  run.hopeless = () => Promise.resolve("tcpdump was stopped by a signal");
  assert.deepEqual(await look(), [{ is: "hopeless", why: "tcpdump was stopped by a signal" }]);
});

Deno.test("RunHealth.look() finds silence once, by an answer that is of after the silence", async () => {
  const { run, look, counts } = scene();
  counts(0);
  run.seconds = CAPTURE_TIMING.health.silence + 5;
  // The last answer may be seconds old: what has come since is not known yet.
  for (const ask of [true, false, true]) assert.deepEqual(await look(ask), []);
  counts(0);
  run.seconds += 30;
  assert.deepEqual(await look(), [{ is: "silent", seconds: CAPTURE_TIMING.health.silence + 5 }]);
  for (const ask of [false, false, true]) assert.deepEqual(await look(ask), []);
  counts(0);
  assert.deepEqual(await look(), []);
});

Deno.test("RunHealth.look() finds no silence after a packet, nor too early", async () => {
  for (const [seconds, captured, received] of [[59.9, 0, 0], [61, 1, 1], [61, 0, 1]] as const) {
    const { run, look, counts } = scene();
    counts(0);
    run.seconds = seconds;
    await look(true);
    counts(captured, received);
    assert.deepEqual(await look(), []);
  }
});

Deno.test("RunHealth.look() finds silence although packets came before tcpdump had set its filter", async () => {
  const { run, look, counts } = scene();
  counts(0, 28);
  await look();
  run.seconds = 61;
  await look(true);
  // One that has come since may be one that the filter takes, in the kernel's buffer.
  for (const seconds of [62, 63]) {
    counts(0, 29);
    run.seconds = seconds;
    assert.deepEqual(await look(), []);
  }
  run.seconds = 65;
  await look(true);
  counts(0, 29);
  assert.deepEqual(await look(), [{ is: "silent", seconds: 65 }]);
});

Deno.test("RunHealth.look() finds dropped packets once it can tell a burst from more, then once a minute", async () => {
  const { now } = performance;
  let later = 0;
  performance.now = () => now.call(performance) + later;
  try {
    const { look, counts } = scene();
    counts(10, 10);
    assert.deepEqual(await look(true), []);
    /** What is found of answers with so many dropped packets, one after the other. */
    const found = async (...dropped: number[]) => {
      const findings = [];
      for (const each of dropped) {
        counts(10, 10 + each, each);
        findings.push(...await look(true), ...await look());
      }
      return findings;
    };
    // A burst: the next answer has no more.
    assert.deepEqual(await found(1), []);
    assert.deepEqual(await found(1), [{ is: "dropping", more: 1, dropped: 1, received: 11, isSteady: false }]);
    assert.deepEqual(await found(2, 3, 3, 50, 50), []);
    later += CAPTURE_TIMING.health.droppedAgain;
    // Since the last finding they had risen twice in a row.
    assert.deepEqual(await found(50), [{ is: "dropping", more: 49, dropped: 50, received: 60, isSteady: true }]);
    later += CAPTURE_TIMING.health.droppedAgain;
    assert.deepEqual(await found(50), []);
    assert.deepEqual(await found(51), []);
    assert.deepEqual(await found(51), [{ is: "dropping", more: 1, dropped: 51, received: 61, isSteady: false }]);
    later += CAPTURE_TIMING.health.droppedAgain;
    assert.deepEqual(await found(60, 70), [{ is: "dropping", more: 19, dropped: 70, received: 80, isSteady: true }]);
  } finally {
    performance.now = now;
  }
});

const DROPPING = { is: "dropping", more: 1, dropped: 1, received: 11, isSteady: false } as const;
const SILENT = { is: "silent", seconds: 65.4 } as const;

/** Has every look at a run find what `look` says, until it is disposed of. */
function finding(look: typeof RunHealth.prototype.look): Disposable {
  const before = RunHealth.prototype.look;
  RunHealth.prototype.look = look;
  return { [Symbol.dispose]: () => void (RunHealth.prototype.look = before) };
}

async function capturing(annotations: Record<string, string> = { "": "3" }): Promise<World> {
  const world = await World.start();
  world.sandbox("web");
  world.annotate("web", annotations);
  await world.capturing("web");
  return world;
}

Deno.test("a capture that ends while it is looked at brings back no series, and nothing is told of it", async () => {
  await using world = await capturing();
  await waitFor("its series", async () => /packets_total\{.*web/.test(await world.metrics.text()));
  const [looking, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  using _ = finding(async () => {
    looking.resolve();
    await go.promise;
    return [DROPPING];
  });
  await looking.promise;
  world.annotate("web", {});
  await world.clean("web");
  go.resolve();
  const { lastTurn } = world.captures;
  await waitFor("another turn", () => world.captures.lastTurn > lastTurn, { everyMs: 20 });
  assert.doesNotMatch(await world.metrics.text(), /"web"/);
  assert.deepEqual(world.events.filter((event) => event.includes("CapturePacketsDropped")), []);
});

Deno.test("dropped packets are told in the log with numbers, and on the pod always in the same words", async () => {
  await using world = await capturing();
  using _ = finding(() => Promise.resolve([DROPPING]));
  const [first, second] = [await world.told(/Dropped/), await world.told(/Dropped/, 2)];
  assert.equal(first, second);
  assert.match(
    first,
    /^uid-web CapturePacketsDropped: The kernel dropped packets (in a burst|because the controller is at its CPU limit) /,
  );
  assert.match(world.lines.find((line) => line.startsWith("packets dropped"))!, /"more":1,"dropped":1,"received":11/);
});

Deno.test("nothing of a run is told on a later pod of the same name", async () => {
  const { kill } = Run.prototype;
  const go = Promise.withResolvers<void>();
  await using world = await capturing();
  Run.prototype.kill = async function (...args) {
    await go.promise;
    return await kill.apply(this, args);
  };
  try {
    world.gone("web");
    world.annotate("web", { "": "x" }, { uid: "uid-2" });
    const looked = Promise.withResolvers<void>();
    using _ = finding(() => {
      looked.resolve();
      return Promise.resolve([DROPPING]);
    });
    await looked.promise;
    await waitFor("the line", () => world.lines.some((line) => line.startsWith("packets dropped")));
  } finally {
    Run.prototype.kill = kill;
    go.resolve();
  }
  world.sandbox("web", "s2", "uid-2");
  await world.told(/^uid-2 CaptureRejected/);
  assert.deepEqual(world.events.filter((event) => event.includes("Dropped")), []);
});

Deno.test("silence is told with the pod's interfaces, not waiting for their list, unless a packet comes meanwhile", async () => {
  const get = Object.getOwnPropertyDescriptor(Run.prototype, "counters")!;
  for (const comes of [false, true]) {
    await using world = await capturing({ "": "3", filter: "udp port 7" });
    world.steer("devices", "while [ -e $here/devices ]; do sleep 0.01; done");
    let captured = 0, looks = 0;
    Object.defineProperty(Run.prototype, "counters", {
      configurable: true,
      get: () => ++looks && { captured, received: captured, dropped: 0 },
    });
    try {
      let found = 0;
      using _ = finding(() => Promise.resolve(found++ === 0 ? [SILENT] : []));
      // The looks go on while the list is made, which may take 2 s.
      await waitFor("the next look", () => found >= 2, { everyMs: 20 });
      assert.equal(world.events.some((event) => event.includes("CaptureNoPackets")), false);
      if (comes) captured = 1;
      const before = looks;
      world.steer("devices", undefined);
      await waitFor("another look at the counters", () => looks > before, { everyMs: 5 });
      if (comes) {
        await waitFor("two more looks", () => found >= 4, { everyMs: 20 });
        assert.equal(world.events.some((event) => event.includes("CaptureNoPackets")), false);
      } else {
        assert.equal(
          await world.told(/CaptureNoPackets/),
          "uid-web CaptureNoPackets: No packets came in the first 65 s on interface any with filter udp port 7; " +
            "the pod has eth0 [Up, Running, Connected], lo [Up, Running, Loopback]",
        );
      }
    } finally {
      Object.defineProperty(Run.prototype, "counters", get);
    }
  }
});

Deno.test("a hopeless run is killed and tried again", async () => {
  await using world = await capturing();
  let found = 0;
  using _ = finding(() => Promise.resolve(found++ === 0 ? [{ is: "hopeless", why: "tcpdump was stopped" }] : []));
  await world.told(/CaptureFailed: tcpdump was ended: tcpdump was stopped; the controller retries/);
  assert.equal(world.lines.some((line) => /^tcpdump killed .*"why":"tcpdump was stopped"/.test(line)), true);
  await world.told(/CaptureRestarted/);
});
