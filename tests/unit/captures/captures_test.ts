/** All captures together, with a script for tcpdump: the work of each second, and the stop. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../../support/wait.ts";
import { CaptureDir } from "../../../src/store/capture_dir.ts";
import { Run } from "../../../src/tcpdump/run.ts";
import { exists, World } from "./world.ts";

Deno.test("Captures.run() adds one listener to its signal, however often it ticks", async () => {
  let looks = 0;
  const look = () => {
    looks++;
    return Promise.resolve(false);
  };
  await using world = await World.start({ disk: { paused: undefined, freeBytes: 1, look } });
  const signal = new AbortController();
  let listeners = 0;
  const add = signal.signal.addEventListener.bind(signal.signal);
  signal.signal.addEventListener = ((...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  }) as typeof add;
  const before = looks;
  const run = world.captures.run(signal.signal);
  await waitFor("three turns", () => looks >= before + 6, { everyMs: 20 });
  signal.abort();
  await run;
  assertEquals(listeners, 1);
});

Deno.test("Captures tries a filter's check again that the machine has ended, and refuses nothing for it", async () => {
  await using world = await World.start();
  world.steer("check", "kill -KILL $$");
  world.sandbox("web");
  world.annotate("web", { "": "3", filter: "udp" });
  assert((await world.told(/CaptureFailed/)).includes("tcpdump was ended by SIGKILL; the controller retries"));
  assertEquals(world.calls("starts"), 0);
  world.steer("check", undefined);
  await world.capturing("web");
  assertEquals(world.events.filter((event) => event.includes("CaptureRejected")), []);
});

Deno.test("Captures lets no check of a filter hold up an un-annotation", async () => {
  await using world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  world.steer("check", "exec sleep 60");
  world.annotate("web", { "": "3", filter: "udp" });
  await waitFor("the check", () => world.calls("checks") === 1, { everyMs: 5 });
  world.annotate("web", {});
  await world.clean("web");
  assertEquals(world.lines.filter((line) => line.startsWith("capture failed")), []);
});

Deno.test("Captures starts no request whose filter was not checked, also one that was edited during a check", async () => {
  await using world = await World.start();
  world.steer("check", `case "$*" in *bad*) echo "tcpdump: syntax error" >&2; exit 1; esac; sleep 0.1`);
  world.sandbox("web");
  world.annotate("web", { "": "3", filter: "good" });
  await waitFor("the check", () => world.calls("checks") === 1, { everyMs: 5 });
  world.annotate("web", { "": "3", filter: "bad" });
  await world.told(/CaptureRejected.*syntax error/);
  assertEquals(world.calls("starts"), 0);
});

Deno.test("Captures.stop() flushes what runs while the filter of its edit is checked", async () => {
  await using world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  world.steer("check", "exec sleep 60");
  world.annotate("web", { "": "3", filter: "udp" });
  await waitFor("the check", () => world.calls("checks") === 1, { everyMs: 5 });
  await world.stop();
  assertEquals(world.processes(), []);
  const run = (await world.manifest("web"))?.runs[0];
  assert(run?.endedAt !== undefined);
  assertEquals(run.captured, 7, "it was not flushed: its last counters are missing");
  assertEquals(world.lines.filter((line) => /failed/.test(line)), []);
});

Deno.test("Captures.stop() flushes also what cannot be reconciled", async () => {
  await using world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  world.sandboxes.get = () => {
    throw new Error("no");
  };
  await world.stop();
  assertEquals(world.processes(), []);
  assertEquals((await world.manifest("web"))?.runs[0]?.captured, 7);
});

Deno.test("Captures starts a killed tcpdump again, also while the runtime does not answer", async () => {
  await using world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  world.looking = new Promise(() => {});
  Deno.kill(world.processes()[0]!, "SIGKILL");
  await world.told(/CaptureRestarted: .*tcpdump ended by SIGKILL/);
});

Deno.test("Captures lets an edit that asks for more wait, and not the captures that run", async () => {
  await using world = await World.start({ env: { DISK_BUDGET_MB: "100" } });
  for (const name of ["a", "b"]) world.sandbox(name);
  world.annotate("a", { "": "5" });
  await world.capturing("a");
  world.annotate("b", { "": "40" });
  await world.capturing("b");
  world.annotate("a", { "": "25" });
  await world.inState("a", "waiting");
  assert((await world.told(/uid-a CaptureWaiting/)).includes("it may take 50 MB of disk, and 80 MB of"));
  world.sandbox("b");
  world.annotate("a", { "": "10" });
  await world.capturing("a", 2);
  assertEquals((await world.manifest("b"))?.runs.length, 1);
  assertEquals(world.events.filter((event) => event.startsWith("uid-b") && !event.includes("CaptureStarted")), []);
});

Deno.test("Captures has room for a ring that fills the budget, though tcpdump's files are a packet larger than asked for", async () => {
  const env = { DISK_BUDGET_MB: "20" };
  await using world = await World.start({ env });
  /** Makes the files larger; those of the run before are being trimmed meanwhile. */
  const grow = async () => {
    for (const name of world.files("web")) {
      await Deno.truncate(join(world.folder("web"), name), 1_200_000).catch((error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
    }
  };
  world.sandbox("web");
  world.annotate("web", { "": "10" });
  await world.capturing("web");
  await grow();
  world.annotate("web", { "": "10", snaplen: "100" });
  await world.capturing("web", 2);
  await grow();
  world.sandbox("web");
  const dir = await world.leave();
  assertEquals(world.events.map((event) => event.split(/[ :]/)[1]), ["CaptureStarted", "CaptureRestarted"]);
  await using again = await World.start({
    env,
    dir,
    before: (again) => {
      again.sandbox("web");
      again.annotate("web", { "": "10", snaplen: "100" });
    },
  });
  await again.told(/CaptureRestarted/);
});

Deno.test("Captures never takes a place away for files that have appeared, and gives room back that an earlier request took", async () => {
  await using world = await World.start({ env: { DISK_BUDGET_MB: "30" } });
  for (const name of ["a", "b"]) world.sandbox(name);
  world.annotate("a", { "": "2", "file-size": "5" });
  await world.capturing("a");
  for (const name of world.files("a")) await Deno.truncate(join(world.folder("a"), name), 5_000_000);
  // Its earlier files are 10 MB, which count until they are trimmed.
  world.annotate("a", { "": "2" });
  world.annotate("b", { "": "10" });
  await world.inState("b", "waiting");
  await world.capturing("a", 2);
  await world.capturing("b");
  using reading = await Deno.open(join(world.folder("b"), ".reading"), { write: true, create: true });
  await reading.lock(false);
  const planted = join(world.folder("b"), "run-000001-000000.pcap");
  await Deno.create(planted).then((file) => file.close());
  await Deno.truncate(planted, 40_000_000);
  await waitFor("a look at the files", async () => /ring_bytes.*"b"} 4/.test(await world.metrics.text()), {
    everyMs: 50,
  });
  world.sandbox("b");
  world.annotate("a", { "": "2", hold: "true" });
  await world.inState("a", "held");
  world.annotate("a", { "": "2" });
  await world.capturing("a", 3);
  assertEquals((await world.manifest("b"))?.state, "capturing");
  assertEquals(world.events.filter((event) => /uid-b Capture(Rejected|Stopped)/.test(event)), []);
});

Deno.test("Captures keeps no more than N files also when a run ends at once, except for a reader", async () => {
  await using world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  world.annotate("web", { "": "3", packets: "9" });
  await world.inState("web", "completed");
  assertEquals(world.files("web"), ["capture-web.pcap0", "capture-web.pcap1", "capture-web.pcap2"]);
  {
    using reading = await Deno.open(join(world.folder("web"), ".reading"), { write: true, create: true });
    await reading.lock(false);
    // A new run makes its own three.
    world.annotate("web", { "": "3", packets: "10" });
    await world.told(/CaptureCompleted/, 2);
    assertEquals(world.files("web").length, 6);
  }
  await waitFor("three files", () => world.files("web").length === 3, { everyMs: 20 });
});

Deno.test("Captures counts retained files at once, and gives their room away when they go, by themselves or by a purge", async () => {
  await using world = await World.start({ env: { DISK_BUDGET_MB: "20", RETENTION_AFTER_POD_DELETION: "1s" } });
  for (const name of ["a", "b"]) world.sandbox(name);
  const retainA = async () => {
    world.annotate("a", { "": "8" });
    await world.capturing("a");
    await Deno.truncate(join(world.folder("a"), "capture-a.pcap0"), 15_000_000);
    world.annotate("b", { "": "5" });
    await world.inState("b", "waiting");
    world.gone("a");
    await world.clean("a");
  };
  await retainA();
  // It has had its next look before the files have gone, which it waits for.
  await waitFor("the end of retention", () => !exists(join(world.directory.path, ".retained")), { everyMs: 5 });
  await world.capturing("b");
  const log = world.lines.findLastIndex((line) => line.startsWith("retained files deleted"));
  const started = world.lines.findIndex((line) => line.startsWith("capture listening") && line.includes("uid-b"));
  assert(log >= 0 && started > log, "it started before there was room");
  assert((await world.metrics.text()).includes(`packet_capture_requests{state="retained"} 0`));
});

Deno.test("Captures retains files without a manifest that can be read as others, under a UID that is made up", async () => {
  for (const damage of ["{", undefined]) {
    const env = { RETENTION_AFTER_POD_DELETION: "1h" };
    await using first = await World.start({ env });
    first.sandbox("web");
    first.annotate("web", { "": "3" });
    await first.capturing("web");
    const path = join(first.folder("web"), "capture.json");
    const dir = await first.leave();
    if (damage === undefined) await Deno.remove(path);
    else await Deno.writeTextFile(path, damage);
    await using world = await World.start({ dir, env });
    await world.clean("web");
    const retained = join(world.directory.path, ".retained");
    const [uid, ...others] = [...Deno.readDirSync(retained)].map(({ name }) => name);
    assertEquals(others, []);
    const files = [...Deno.readDirSync(join(retained, uid!))].map(({ name }) => name).filter((name) =>
      name.includes("pcap")
    );
    assertEquals(files.length, 3);
    const manifest = JSON.parse(await Deno.readTextFile(join(retained, uid!, "capture.json")));
    assertEquals(
      [manifest.uid, manifest.namespace, manifest.pod, manifest.state, manifest.retainedSeconds],
      [uid, "default", "web", "retained", 0],
    );
  }
});

Deno.test("Captures gives the room of retained files away that a purge has deleted", async () => {
  await using world = await World.start({ env: { DISK_BUDGET_MB: "20", RETENTION_AFTER_POD_DELETION: "1h" } });
  for (const name of ["a", "b"]) world.sandbox(name);
  world.annotate("a", { "": "8" });
  await world.capturing("a");
  await Deno.truncate(join(world.folder("a"), "capture-a.pcap0"), 15_000_000);
  world.annotate("b", { "": "5" });
  await world.inState("b", "waiting");
  world.gone("a");
  await world.clean("a");
  using visit = await CaptureDir.visit(world.directory.path);
  await visit.removeRetained("uid-a");
  await world.capturing("b");
});

Deno.test("Captures serves the other captures, and goes on ticking, while a disk hangs", async () => {
  let looks = 0;
  const hang = <T>() => new Promise<T>(() => {});
  const look = () => looks++ === 0 ? Promise.resolve(false) : hang<boolean>();
  await using world = await World.start({
    disk: { paused: undefined, freeBytes: 1, look },
    env: { RETENTION_AFTER_POD_DELETION: "1h" },
  });
  for (const name of ["a", "b", "c"]) {
    world.sandbox(name);
    world.annotate(name, { "": "3" });
    await world.capturing(name);
  }
  world.gone("c");
  await world.clean("c");
  world.directory.retained = () => hang();
  const { readDir } = Deno;
  Deno.readDir = (path) =>
    path === world.folder("a") ? { [Symbol.asyncIterator]: () => ({ next: hang }) } : readDir(path);
  try {
    world.annotate("b", { "": "3", snaplen: "100" });
    await world.capturing("b", 2);
    await waitFor("three files", () => world.files("b").length === 3, { everyMs: 20 });
    await world.turns(1);
    await waitFor("b's counters", async () => (await world.manifest("b"))?.runs[1]?.captured === 7, { everyMs: 20 });
  } finally {
    Deno.readDir = readDir;
  }
});

Deno.test("Captures goes on ticking while a disk lists a folder, but not the sizes of its files", async () => {
  await using world = await World.start();
  for (const name of ["a", "b"]) {
    world.sandbox(name);
    world.annotate(name, { "": "3" });
    await world.capturing(name);
  }
  const HANGS_MS = 10_000;
  const { lstat, lstatSync } = Deno;
  let asked = 0;
  const isOfHanging = (path: string | URL) => `${path}`.startsWith(`${world.folder("a")}/`) && ++asked > 0;
  Deno.lstat = (path) => isOfHanging(path) ? new Promise(() => {}) : lstat(path);
  Deno.lstatSync = (path) => {
    // The thread waits like this for a disk.
    if (isOfHanging(path)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, HANGS_MS);
    return lstatSync(path);
  };
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 20);
  try {
    await waitFor("a look at the hanging files", () => asked > 0, { everyMs: 20, timeoutMs: 3 * HANGS_MS });
    world.annotate("b", { "": "3", snaplen: "100" });
    await world.capturing("b", 2);
    assert(longest < HANGS_MS / 2, `nothing else was done for ${longest} ms`);
  } finally {
    clearInterval(timer);
    Object.assign(Deno, { lstat, lstatSync });
  }
});

Deno.test("Captures charges a deleted pod's files to its namespace, also after a restart, and to no other", async () => {
  const env = { DISK_BUDGET_MB: "40", DISK_BUDGET_MB_PER_NAMESPACE: "20", RETENTION_AFTER_POD_DELETION: "1h" };
  await using world = await World.start({ env });
  world.sandbox("a");
  world.annotate("a", { "": "8" });
  await world.capturing("a");
  await Deno.truncate(join(world.folder("a"), "capture-a.pcap0"), 15_000_000);
  world.gone("a");
  await world.clean("a");
  await asks(world);
  const dir = await world.leave();
  await using again = await World.start({ env, dir });
  await asks(again);

  async function asks(world: World): Promise<void> {
    world.sandbox("b");
    world.sandbox("c", "s1", "uid-c", "other");
    world.annotate("b", { "": "5" });
    const note = await world.told(/^uid-b CaptureWaiting/);
    assert(/16 MB of limits\.perNamespace\.diskBudgetMB, 20 MB, are taken by namespace default/.test(note), note);
    world.annotate("c", { "": "5" }, { namespace: "other" });
    await world.told(/^uid-c CaptureStarted/);
    for (const [name, namespace] of [["b", "default"], ["c", "other"]] as const) {
      world.annotate(name, {}, { namespace });
    }
    await waitFor("nothing of c", () => !exists(join(world.directory.path, "other")), { everyMs: 5 });
  }
});

Deno.test("Captures.countNow() counts what is in the files, also of a busy capture", async () => {
  await using world = await World.start();
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  const { countNow } = Run.prototype;
  const flushed: boolean[] = [];
  Run.prototype.countNow = function (...args) {
    flushed.push(...args);
    return countNow.apply(this, args);
  };
  try {
    await world.captures.countNow();
  } finally {
    Run.prototype.countNow = countNow;
  }
  // The tick may have counted meanwhile, which flushes slow captures only.
  assert(flushed.includes(true), String(flushed));
});
