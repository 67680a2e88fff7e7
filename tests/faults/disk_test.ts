/** Faults of the disk below captureDir, on a file system of its own, and of what is on it. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../support/run.ts";
import { lasting, waitFor } from "../support/wait.ts";
import { exists, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { Disk } from "./disk.ts";
import { bounded, fault, FULL, impatient, shared, since } from "./fault.ts";
import { cleanUp, clear, healthy, hears, startController, unreadable } from "./node.ts";
import { numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());
const WANTED = { annotations: { [KEY]: "5" } };

/** Sends datagrams of 60 KB until the disk has no room for another. */
async function flood(node: NodeRig, pod: TestPod, disk: Disk): Promise<void> {
  const script = `exec 3<>/dev/udp/127.0.0.1/9
    for i in {1..20}; do dd if=/dev/zero bs=60000 count=1 >&3; done 2>/dev/null`;
  await waitFor("a disk without room", async () => {
    await attempt(await node.inNetns(pod, ["bash", "-c", script]));
    return (await disk.space()).free < 60_000;
  });
}

async function bytesOf(node: NodeRig, pod: TestPod): Promise<number> {
  let bytes = 0;
  for (const name of await node.files(pod)) bytes += (await Deno.stat(join(node.folderOf(pod), name))).size;
  return bytes;
}

/** Has packets in the pod's files, and gives how many of them are missing when it is called again. */
async function keeps(node: NodeRig, pod: TestPod): Promise<() => Promise<number>> {
  const traffic = await Traffic.start(node, pod, "kept");
  await traffic.flows();
  const { sent, packetsLost } = await traffic.end();
  assertEquals(packetsLost, 0, "before the fault");
  return async () => sent - (await numbersOf(node, pod, "kept")).size;
}

fault("disk-full", async (record) => {
  const node = await rig();
  await clear(node);
  await using disk = await Disk.make(node);
  await using controller = await node.startController({ DISK_BUDGET_MB: "40", DISK_BUDGET_MB_PER_NAMESPACE: "40" });
  const pod = await node.startPod("full", WANTED);
  const freed = await node.startPod("freed", WANTED);
  await Promise.all([node.capturing(pod), node.capturing(freed)]);
  await hears(node, freed);
  const missing = await keeps(node, pod);
  // A record so large lies on many pages, of which the disk takes the first but not the last.
  await disk.leave(400_000);
  await flood(node, pod, disk);
  await disk.leave(0);
  const { free } = await disk.space();
  assertEquals(free, 0);
  record.happened(`statfs said ${free} bytes free`);
  await controller.says(/captures pause/);
  await node.hasEvent(pod, "CapturePaused");
  await waitFor("no process", async () => await node.processOf(pod) === undefined);
  const torn = await controller.says(/torn record cut off/);
  record.happened(`a record was torn after ${/bytes=(\d+)/.exec(torn)?.[1]} bytes`);
  assertEquals(await unreadable(node, pod), []);

  // A controller that comes while it is full waits like the one before, and deletes what is no longer wanted.
  await controller.end("SIGKILL");
  await disk.leave(0);
  await using again = await node.startController({ DISK_BUDGET_MB: "40", DISK_BUDGET_MB_PER_NAMESPACE: "40" }, {
    ready: false,
  });
  await again.ready();
  await healthy(again);
  await node.annotate(freed, { "": null });
  await node.clean(freed);
  await disk.empty();
  const start = performance.now();
  await node.capturing(pod);
  const seconds = since(start);
  await hears(node, pod);
  await node.hasEvent(pod, "CaptureRestarted");
  const packetsLost = await missing();
  assertEquals(packetsLost, 0, "packets that were in its files");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod, freed]) });
});

fault("inodes-exhausted", async (record) => {
  const node = await rig();
  await clear(node);
  await using disk = await Disk.make(node, { inodes: 256 });
  await using _controller = await node.startController();
  const pod = await node.startPod("inodes", WANTED);
  await node.capturing(pod);
  const missing = await keeps(node, pod);
  await disk.fillInodes();
  const { freeInodes } = await disk.space();
  assertEquals(freeInodes, 0);
  record.happened(`statfs said ${freeInodes} inodes free`);
  const { note } = await node.hasEvent(pod, "CapturePaused");
  assert(note.includes("inodes"), note);
  await waitFor("no process", async () => await node.processOf(pod) === undefined);
  await disk.empty();
  const start = performance.now();
  await node.capturing(pod);
  const seconds = since(start);
  await hears(node, pod);
  await node.hasEvent(pod, "CaptureRestarted");
  const packetsLost = await missing();
  assertEquals(packetsLost, 0, "packets that were in its files");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("below-floor", async (record) => {
  const node = await rig();
  await clear(node);
  await using disk = await Disk.make(node);
  await using _controller = await node.startController({ MIN_FREE_PERCENT: "30" });
  const pod = await node.startPod("floor", WANTED);
  await node.capturing(pod);
  const missing = await keeps(node, pod);
  const traffic = await Traffic.start(node, pod, "floor");
  await disk.fill(28);
  const { freePercent } = await disk.space();
  assert(freePercent < 30);
  record.happened(`statfs said ${freePercent.toFixed(1)} % free, the floor being 30 %`);
  const { note } = await node.hasEvent(pod, "CapturePaused");
  assert(note.includes("minFreePercent"), note);
  await waitFor("no process", async () => await node.processOf(pod) === undefined);
  // One that is asked for now does not start, and nothing is written, however long it lasts.
  const other = await node.startPod("below", WANTED);
  const bytes = await bytesOf(node, pod);
  await node.hasEvent(other, "CapturePaused");
  await disk.empty();
  await disk.fill(31);
  const watched = performance.now();
  await lasting("3 s above the floor, but not by enough", () => since(watched) > 3, async () => {
    assertEquals(await node.processes(), [], "it resumed without hysteresis");
  }, { everyMs: 50 });
  assertEquals(await bytesOf(node, pod), bytes, "it grew below the floor");
  await disk.empty();
  const start = performance.now();
  await Promise.all([node.capturing(pod), node.capturing(other)]);
  const seconds = since(start);
  await traffic.stop();
  await hears(node, pod);
  await node.hasEvent(pod, "CaptureRestarted");
  const packetsLost = await missing();
  assertEquals(packetsLost, 0, "packets that were in its files");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod, other]) });
});

fault("disk-read-only", async (record) => {
  const node = await rig();
  await clear(node);
  await using disk = await Disk.make(node);
  const controller = await node.startController();
  const [pod, removed] = [await node.startPod("kept", WANTED), await node.startPod("removed", WANTED)];
  const [{ pid }] = await Promise.all([node.capturing(pod), node.capturing(removed)]);
  const missing = await keeps(node, pod);

  // A mount over it, which can be taken away again: the controller that lived through it is right again by itself.
  await disk.readOnly();
  const word = (await attempt(node.runtime.enter(["touch", join(disk.path, "x")]))).stderr;
  assert(word.includes("Read-only file system"), word);
  await node.annotate(removed, { "": null });
  const first = await node.startPod("first", WANTED);
  await node.hasEvent(first, "CaptureFailed");
  await waitFor("the end of its process", async () => await node.processOf(removed) === undefined);
  await controller.says(/reconcile failed.*Read-only/);
  assert((await node.files(removed)).length > 0, "files were deleted on a read-only disk");
  assertEquals((await node.processOf(pod))?.pid, pid, "what has its file open goes on");
  await healthy(controller);
  await disk.writable();
  const back = performance.now();
  await Promise.all([node.capturing(first, 30_000), node.clean(removed, 30_000)]);
  const seconds = since(back);
  assertEquals((await node.capturing(pod)).pid, pid);
  await hears(node, first);

  // An error in its structures, after which the kernel takes no write to open files either, until it is mended.
  await run(["sync", "--file-system", disk.path]);
  await disk.breakDown();
  const said = (await attempt(["touch", join(disk.path, "x")])).stderr;
  assert(said.includes("Read-only file system"), said);
  record.happened(
    `mounted read-only over it, then an error in its structures; both times touch said "Read-only file system"`,
  );
  const late = await node.startPod("late", WANTED);
  await node.hasEvent(late, "CaptureFailed");
  await healthy(controller);
  assertEquals((await controller.stop()).code, 0);
  assertEquals(await node.processes(), []);
  await disk.mend();
  await using _again = await node.startController({}, { ready: false });
  const start = performance.now();
  await Promise.all([pod, first, late].map((pod) => node.capturing(pod, 30_000)));
  const longer = Math.max(seconds, since(start));
  await hears(node, pod);
  const packetsLost = await missing();
  assertEquals(packetsLost, 0, "packets that were in its files");
  record.right({ seconds: longer, packetsLost, leftovers: await cleanUp(node, [pod, removed, first, late]) });
});

fault("disk-slow", async (record) => {
  const node = await rig();
  await clear(node);
  await using disk = await Disk.make(node);
  const seconds = bounded(14, 75);
  const [patience, options] = impatient({ watch: { tick: 1_000 }, controller: { stalled: 6_000 } });
  // What is retained has its time while the disk hangs.
  await using controller = await node.startController({ ...patience, RETENTION_AFTER_POD_DELETION: "3s" }, options);
  const pod = await node.startPod("slow", WANTED);
  const { pid } = await node.capturing(pod);
  await hears(node, pod);
  const traffic = await Traffic.start(node, pod, "slow");
  const old = await node.startPod("old", WANTED);
  await node.capturing(old);
  await hears(node, old);
  await node.deletePod(old);
  const retained = join(disk.path, ".retained", old.uid);
  await waitFor("retained files", () => exists(retained), { everyMs: 10 });
  await using _frozen = await disk.freeze();
  assert(await exists(retained), "the disk was frozen too late");
  const begin = performance.now();
  await assertHangs(["touch", join(disk.path, ".fill-x")]);
  const late = await node.startPod("late", WANTED);
  await lasting(`${seconds} s`, () => since(begin) > seconds, () => healthy(controller), {
    timeoutMs: (seconds + 60) * 1000,
  });
  await disk.thaw();
  const start = performance.now();
  record.happened(`the file system was frozen for ${since(begin).toFixed(0)} s: touch hung`);
  await node.capturing(late, 20_000);
  // After a minute without a word from it a tcpdump is given up.
  if (!FULL) assertEquals((await node.capturing(pod)).pid, pid, "the capture goes on");
  await hears(node, pod);
  await hears(node, late);
  const right = since(start);
  const { packetsLost } = await traffic.end();
  if (!FULL) assertEquals(packetsLost, 0, "the kernel's buffer holds what comes meanwhile");
  await disk.empty();
  record.right({ seconds: right, packetsLost, leftovers: await cleanUp(node, [pod, late]) });
});

async function assertHangs(argv: readonly string[]): Promise<void> {
  const ended = await attempt(argv, { timeoutMs: 1000 }).then(() => true, () => false);
  assert(!ended, `${argv.join(" ")} did not hang`);
}

fault("file-deleted", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const [pod, other] = [await node.startPod("rm-file", WANTED), await node.startPod("rm-folder", WANTED)];
  const [{ pid }, { pid: otherPid }] = await Promise.all([node.capturing(pod), node.capturing(other)]);
  await hears(node, pod);
  await Deno.remove(join(node.folderOf(pod), "capture-rm-file.pcap0"));
  await Deno.remove(node.folderOf(other), { recursive: true });
  const start = performance.now();
  for (const each of [pid, otherPid]) {
    assert((await filesOf(each)).some((path) => path.endsWith(".pcap0 (deleted)")), "it has another file open");
  }
  record.happened("/proc said (deleted) of the files that two tcpdump wrote to, of one with its folder");
  const traffic = await Traffic.start(node, pod, "gone");
  await Promise.all([hears(node, pod), hears(node, other)]);
  const seconds = since(start);
  const { packetsLost, perSecond } = await traffic.end();
  assert(packetsLost < perSecond * (seconds + 1), `${packetsLost} lost at ${perSecond} a second`);
  await node.hasEvent(pod, "CaptureRestarted");
  assertEquals((await node.manifest(other)).uid, other.uid);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod, other]) });
});

/** What the process has open. */
async function filesOf(pid: number): Promise<string[]> {
  const paths: string[] = [];
  for await (const { name } of Deno.readDir(`/proc/${pid}/fd`)) {
    paths.push(await Deno.readLink(`/proc/${pid}/fd/${name}`));
  }
  return paths;
}

fault("capture-dir-replaced", async (record) => {
  const node = await rig();
  const first = await startController(node);
  const pod = await node.startPod("replaced", WANTED);
  await node.capturing(pod);
  await hears(node, pod);
  const old = `${node.captureDir}.old`;
  await Deno.remove(old, { recursive: true }).catch(() => {});
  const { ino } = await Deno.stat(node.captureDir);
  await Deno.rename(node.captureDir, old);
  await Deno.mkdir(node.captureDir);
  record.happened(`captureDir was inode ${ino} and is ${(await Deno.stat(node.captureDir)).ino}`);
  const start = performance.now();
  // It cannot go on: what it holds is no longer there. It ends, to be started again, and the kubelet does so.
  const { code } = await first.exited;
  assertEquals(code, 1);
  assert(/captureDir was replaced/.test(first.log));
  assertEquals(await node.processes(), []);
  await using _again = await node.startController();
  await node.capturing(pod);
  const seconds = since(start);
  await hears(node, pod);
  const kept = Array.from(Deno.readDirSync(join(old, "default", "replaced"))).filter(({ name }) =>
    name.includes(".pcap")
  );
  assert(kept.length > 0, "the files in the directory that was moved away are touched");
  await Deno.remove(old, { recursive: true });
  record.right({ seconds, leftovers: await cleanUp(node, [pod]) });
});
