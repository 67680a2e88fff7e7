/** More captures, or larger ones, than the node's limits allow. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { waitFor } from "../support/wait.ts";
import { KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, shared, since } from "./fault.ts";
import { cleanUp, startController } from "./node.ts";
import { lost } from "./traffic.ts";

const rig = shared(() => NodeRig.start());

/** One namespace may have all that the node has. */
const ALL = { MAX_CAPTURES_PER_NAMESPACE: "64", DISK_BUDGET_MB_PER_NAMESPACE: "1500" };

async function starts(
  node: NodeRig,
  names: readonly string[],
  annotations: Record<string, string>,
): Promise<TestPod[]> {
  const pods: TestPod[] = [];
  // One after another: their order is the order in which they are seen.
  for (const name of names) pods.push(await node.startPod(name, { annotations }));
  return pods;
}

async function capturingOf(node: NodeRig): Promise<string[]> {
  return (await node.processes()).map(({ folder }) => folder.split("/").at(-1)!).sort();
}

fault("over-disk-budget", async (record) => {
  const node = await rig();
  await using _controller = await startController(node, { ...ALL, DISK_BUDGET_MB: "25" });
  const [a, b, c] = await starts(node, ["a", "b", "c"], { [KEY]: "5" }) as [TestPod, TestPod, TestPod];
  await Promise.all([node.capturing(a), node.capturing(b)]);
  const { note } = await node.hasEvent(c, "CaptureWaiting");
  assert(/may take 10 MB.*20 MB of limits.diskBudgetMB, 25 MB/.test(note), note);
  assertEquals(await capturingOf(node), ["a", "b"]);
  record.happened(`Event CaptureWaiting: ${note}`);
  const start = performance.now();
  await node.annotate(a, { "": null });
  await node.capturing(c);
  const seconds = since(start);
  const packetsLost = await lost(node, c);
  assertEquals(await capturingOf(node), ["b", "c"]);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [a, b, c]) });
});

fault("over-max-captures", async (record) => {
  const node = await rig();
  await using controller = await startController(node, { ...ALL, MAX_CAPTURES: "2" });
  const pods = await starts(node, ["d", "c", "b", "a"], { [KEY]: "2" });
  const [first, second, third, fourth] = pods as [TestPod, TestPod, TestPod, TestPod];
  await Promise.all([node.capturing(first), node.capturing(second)]);
  for (const pod of [third, fourth]) {
    const { note } = await node.hasEvent(pod, "CaptureWaiting");
    assert(/limits.maxCaptures is 2/.test(note), note);
  }
  const waiting = await controller.metric(`packet_capture_requests{state="waiting"}`);
  assertEquals(waiting, 2);
  record.happened(`${(await capturingOf(node)).length} tcpdump ran, ${waiting} waited with Event CaptureWaiting`);
  const start = performance.now();
  await node.annotate(second, { "": null });
  await node.capturing(third);
  const seconds = since(start);
  assertEquals(await capturingOf(node), ["b", "d"], "the order of first sight");
  await node.deletePod(first);
  await node.capturing(fourth);
  assertEquals(await capturingOf(node), ["a", "b"]);
  record.right({
    seconds,
    packetsLost: await lost(node, third),
    leftovers: await cleanUp(node, [second, third, fourth]),
  });
});

fault("order-after-restart", async (record) => {
  const node = await rig();
  const first = await startController(node, { ...ALL, MAX_CAPTURES: "3" });
  const ran = await starts(node, ["z1", "z2", "z3"], { [KEY]: "2" });
  await Promise.all(ran.map((pod) => node.capturing(pod)));
  // The API lists these first.
  const waiting = await starts(node, ["a1", "a2", "a3", "a4", "a5", "a6"], { [KEY]: "2" });
  await Promise.all(waiting.map((pod) => node.hasEvent(pod, "CaptureWaiting")));
  await first.end("SIGKILL");
  record.happened(`process ${first.pid} was killed with 3 captures running and 6 waiting`);
  let start = performance.now();
  {
    await using second = await node.startController({ ...ALL, MAX_CAPTURES: "3" }, { ready: false });
    // What is ready has ended the processes of the one that was killed.
    await second.ready();
    await waitFor("six that wait", async () => await second.metric(`packet_capture_requests{state="waiting"}`) === 6);
    await waitFor("three that run", async () => (await capturingOf(node)).length === 3, { timeoutMs: 20_000 });
    assertEquals(await capturingOf(node), ["z1", "z2", "z3"]);
    for (const pod of waiting) {
      assert(!second.lines.some((line) => /capture listening/.test(line) && line.includes(pod.uid)), `${pod.name} ran`);
    }
    await second.stop();
  }
  // What ran and has gone meanwhile holds no place.
  await node.deletePod(ran[0]!);
  await using _third = await node.startController({ ...ALL, MAX_CAPTURES: "3" }, { ready: false });
  start = performance.now();
  await waitFor("another in its place", async () => (await capturingOf(node)).length === 3, { timeoutMs: 20_000 });
  const seconds = since(start);
  const now = await capturingOf(node);
  assert(now.includes("z2") && now.includes("z3"), now.join(" "));
  await node.capturing(ran[1]!);
  record.right({
    seconds,
    packetsLost: await lost(node, ran[1]!),
    leftovers: await cleanUp(node, [...ran.slice(1), ...waiting]),
  });
});

fault("never-fits", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const large = { [KEY]: "100", [`${KEY}/file-size`]: "100" };
  const pod = await node.startPod("large", { annotations: large });
  const { note } = await node.hasEvent(pod, "CaptureRejected");
  assert(/20000 MB.*it must be at most limits.diskBudgetMB, 1500 MB/.test(note), note);
  assertEquals(await node.processOf(pod), undefined);
  record.happened(`Event CaptureRejected: ${note}`);
  // It stands in nobody's way.
  const other = await node.startPod("small", { annotations: { [KEY]: "5" } });
  await node.capturing(other);
  const start = performance.now();
  await node.annotate(pod, { "file-size": "1" });
  await node.capturing(pod);
  const seconds = since(start);
  record.right({ seconds, packetsLost: await lost(node, pod), leftovers: await cleanUp(node, [pod, other]) });
});

fault("waits-beside-another-namespace", async (record) => {
  const node = await rig();
  await node.server.createNamespace("tenant");
  const of1400MB = { [KEY]: "100", [`${KEY}/file-size`]: "7" };
  const first = await startController(node, ALL);
  const running = await node.startPod("running", { namespace: "tenant", annotations: { [KEY]: "100" } });
  await node.capturing(running);
  const waiting = await node.startPod("waiting", { namespace: "tenant", annotations: of1400MB });
  const { note } = await node.hasEvent(waiting, "CaptureWaiting");
  assert(/may take 1400 MB of disk, and 200 MB of limits.diskBudgetMB, 1500 MB/.test(note), note);
  record.happened(`Event CaptureWaiting: ${note}`);
  let start = performance.now();
  const beside = await node.startPod("beside", { annotations: { [KEY]: "5" } });
  await node.capturing(beside);
  const seconds = since(start);
  assertEquals(await capturingOf(node), ["beside", "running"]);
  const packetsLost = await lost(node, beside);
  // It has its turn when the one before it has ended, whatever came meanwhile.
  await node.annotate(running, { "": null });
  await node.capturing(waiting);
  assertEquals(await capturingOf(node), ["beside", "waiting"]);
  await first.end("SIGKILL");

  // With the default shares no namespace can ask for so much, and the one that has its half leaves the other half to others.
  await node.annotate(running, { "": "100" });
  await using _second = await node.startController();
  const { note: never } = await node.hasEvent(waiting, "CaptureRejected");
  assert(/1400 MB of disk .* it must be at most limits.perNamespace.diskBudgetMB, 750 MB/.test(never), never);
  record.happened(`Event CaptureRejected: ${never}`);
  await Promise.all([node.capturing(running), node.capturing(beside)]);
  await node.annotate(waiting, { "file-size": "3" });
  const own =
    /may take 600 MB of disk, and 200 MB of limits.perNamespace.diskBudgetMB, 750 MB, are taken by namespace tenant/;
  await waitFor("its waiting for its own namespace", async () => {
    return (await node.events(waiting)).some(({ reason, note }) => reason === "CaptureWaiting" && own.test(note));
  });
  start = performance.now();
  const large = await node.startPod("large", { annotations: { [KEY]: "100", [`${KEY}/file-size`]: "3" } });
  await node.capturing(large);
  record.right({
    seconds: Math.max(seconds, since(start)),
    packetsLost: packetsLost + await lost(node, large),
    leftovers: await cleanUp(node, [running, waiting, beside, large]),
  });
});
