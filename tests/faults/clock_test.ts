/** The wall clock steps under the controller: libfaketime, whose file is changed while it runs, stands for the machine's clock. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { attempt } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { KEY, NodeRig } from "../rig/node.ts";
import { fault, type FaultRecord, shared, since } from "./fault.ts";
import { clear, hears, nothingLeft } from "./node.ts";
import { numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());

async function faketime(): Promise<string> {
  const { stdout } = await attempt(["dpkg", "-L", "libfaketime"]);
  const library = stdout.split("\n").find((path) => path.endsWith("/libfaketimeMT.so.1"));
  assert(library, "libfaketime is not installed (tools/install installs it)");
  return library;
}

/**
 * A ring of two files, one full and one begun. The function that is given makes the full one's time that of a clock before a step
 * (libfaketime does not reach the kernel, which writes it), has both set aside, and sees that it is the older one that goes.
 */
async function ring(node: NodeRig): Promise<(stepSeconds: number) => Promise<void>> {
  const pod = await node.startPod("ring", { annotations: { [KEY]: "2" } });
  await node.capturing(pod);
  const send = async (token: string) => {
    const traffic = await Traffic.start(node, pod, token);
    await traffic.flows();
    return (await traffic.end()).sent;
  };
  await send("older");
  const full = join(node.folderOf(pod), "capture-ring.pcap0");
  await waitFor("a full file", async () => {
    const script = "exec 3<>/dev/udp/127.0.0.1/9; dd if=/dev/zero bs=60000 count=1 >&3 2>/dev/null";
    await attempt(await node.inNetns(pod, ["bash", "-c", script]));
    return (await node.files(pod)).length === 2;
  }, { everyMs: 10 });
  const sent = await send("newer");
  return async (stepSeconds) => {
    const then = Date.now() / 1000 - stepSeconds;
    await Deno.utime(full, then, then);
    await node.annotate(pod, { snaplen: "100000" });
    await waitFor("another run", async () => (await node.processOf(pod))?.argv.includes("100000"));
    await node.capturing(pod);
    await waitFor("two files", async () => (await node.files(pod)).length === 2);
    assertEquals((await numbersOf(node, pod, "newer")).size, sent, "the newer file was taken for the older one");
    assertEquals((await numbersOf(node, pod, "older")).size, 0);
    await node.annotate(pod, { "": null });
    await node.clean(pod);
    await node.deletePod(pod);
  };
}

async function steps(record: FaultRecord, offset: string): Promise<void> {
  const node = await rig();
  const clock = join(node.dir, "clock");
  await Deno.writeTextFile(clock, "+0\n");
  const env = [
    `LD_PRELOAD=${await faketime()}`,
    `FAKETIME_TIMESTAMP_FILE=${clock}`,
    "FAKETIME_NO_CACHE=1",
    "DONT_FAKE_MONOTONIC=1",
  ];
  await clear(node);
  await using controller = await node.startController({ RETENTION_AFTER_POD_DELETION: "12s" }, {
    wrap: ["env", ...env],
  });
  const turned = await ring(node);
  const pod = await node.startPod("clock", { annotations: { [KEY]: "5" } });
  const timed = await node.startPod("timed", { annotations: { [KEY]: "5", [`${KEY}/duration`]: "9s" } });
  const deleted = await node.startPod("deleted", { annotations: { [KEY]: "5" } });
  const { pid } = await node.capturing(pod);
  await node.capturing(timed);
  const timedSince = performance.now();
  await hears(node, deleted);
  await node.deletePod(deleted);
  const retained = join(node.captureDir, ".retained", deleted.uid);
  await waitFor("retained files", async () => (await Deno.stat(retained)).isDirectory);
  const retainedSince = performance.now();
  const traffic = await Traffic.start(node, pod, "clock");
  await traffic.flows();

  const before = said(controller.lines.at(-1)!);
  await Deno.writeTextFile(clock, `${offset}\n`);
  const start = performance.now();
  await hears(node, timed);
  await node.annotate(timed, { hold: "false" }); // what it already is: the line that follows tells the time
  const other = await node.startPod("other", { annotations: { [KEY]: "5" } });
  await node.capturing(other);
  const step = said(await controller.says(/capture listening.*default\/other/)) - before;
  assert(Math.abs(Math.abs(step) - 3600) < 120, `the controller's clock stepped ${step} s`);
  record.happened(`the controller's log stepped ${Math.round(step)} s`);
  await node.annotate(other, { "": null });
  await node.clean(other);
  await turned(step);
  const seconds = since(start);

  assertEquals((await node.capturing(pod)).pid, pid, "no capture is lost");
  if (since(timedSince) < 8) assert(await node.processOf(timed), "duration ended early");
  await node.inState(timed, "completed", 30_000);
  const lasted = since(timedSince);
  assert(lasted > 8 && lasted < 20, `a duration of 9 s ended after ${lasted} s`);
  const { packetsLost } = await traffic.end();
  assertEquals(packetsLost, 0);
  await waitFor(
    "the step in the manifest",
    async () => (await node.manifest(pod))?.runs.at(-1).clockSteps?.length === 1,
    {
      timeoutMs: 10_000,
    },
  );
  const noted = (await node.manifest(pod))?.runs.at(-1).clockSteps[0].seconds;
  assert(Math.abs(noted - Math.sign(step) * 3600) < 2, `${noted} s were noted`);
  if (since(retainedSince) < 11) assert(await Deno.stat(retained), "retention ended early");
  // Files of the other two are retained too, and go in their turn.
  await Promise.all([pod, timed, other].map((pod) => node.deletePod(pod)));
  await waitFor("the end of retention", async () => !await Deno.stat(retained).then(() => true, () => false), {
    timeoutMs: 30_000,
  });
  const kept = since(retainedSince);
  assert(kept > 11 && kept < 27, `retention of 12 s ended after ${kept} s`);
  await controller.stop();
  await using _last = await node.startController({ RETENTION_AFTER_POD_DELETION: "1s" });
  record.right({ seconds, packetsLost, leftovers: await nothingLeft(node) });
}

fault("clock-back", (record) => steps(record, "-1h"));
fault("clock-forward", (record) => steps(record, "+1h"));

/** The time that a line of the log tells, in seconds. */
function said(line: string): number {
  return Date.parse(/time=(\S+)/.exec(line)?.[1] ?? "") / 1000;
}
