/** Faults of pods: they go, come again, lose their sandbox, fail, and end. The test plays the kubelet on a real runtime. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { lasting, waitFor } from "../support/wait.ts";
import { KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { bounded, fault, shared, since } from "./fault.ts";
import { cleanUp, hears, inItsNetns, startController } from "./node.ts";
import { lost, numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());
const WANTED = { annotations: { [KEY]: "5" } };

/** A pod's status, as its kubelet writes it. */
async function setStatus(node: NodeRig, pod: TestPod, status: Record<string, unknown>): Promise<void> {
  await node.server.call("PATCH", `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}/status`, { status });
}

fault("pod-recreated-quickly", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const first = await node.startPod("web-0", WANTED);
  await node.capturing(first);
  const traffic = await Traffic.start(node, first, "first");
  await traffic.flows(10);
  await traffic.stop();
  const begin = performance.now();
  await node.server.deletePod(first.name);
  const second = await node.createPod("web-0", WANTED);
  const between = since(begin);
  assert(between < 1);
  record.happened(`UID ${first.uid} gone and ${second.uid} there after ${(between * 1000).toFixed(0)} ms`);
  const removed = node.runtime.kubelet.removePod(first.sandbox!);
  const start = performance.now();
  await node.startSandbox(second);
  await inItsNetns(node, second);
  const seconds = since(start);
  await removed;
  const packetsLost = await lost(node, second);
  assertEquals((await numbersOf(node, second, "first")).size, 0, "the earlier pod's packets are there");
  assertEquals((await node.manifest(second)).uid, second.uid);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [second]) });
});

async function newSandbox(node: NodeRig, pod: TestPod): Promise<{ seconds: number; packetsLost: number; was: string }> {
  const before = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "old");
  await traffic.flows();
  const sent = await traffic.stop();
  await node.runtime.kubelet.stopPod(pod.sandbox!);
  await node.startSandbox(pod);
  const start = performance.now();
  await inItsNetns(node, pod);
  const seconds = since(start);
  assert(seconds < 2, `noticed after ${seconds} s`);
  await hears(node, pod);
  return { seconds, packetsLost: sent - (await numbersOf(node, pod, "old")).size, was: before.netns };
}

fault("sandbox-killed", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("sandbox", WANTED);
  const { seconds, packetsLost, was } = await newSandbox(node, pod);
  record.happened(`the namespace was ${was} and is ${(await node.processOf(pod))?.netns}`);
  assertEquals(packetsLost, 0);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("sandbox-killed-api-down", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("offline", WANTED);
  await node.capturing(pod);
  await node.proxy.refuse();
  try {
    const { seconds, packetsLost, was } = await newSandbox(node, pod);
    record.happened(`the API's port was closed, the namespace was ${was} and is ${(await node.processOf(pod))?.netns}`);
    assertEquals(packetsLost, 0);
    await node.proxy.accept();
    record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod], 40_000) });
  } finally {
    await node.proxy.accept().catch(() => {});
  }
});

fault("crash-loop", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("crash", WANTED);
  const { pid } = await node.capturing(pod);
  const codes: number[] = [];
  for (let i = 0; i < 5; i++) {
    const script = `httpd -p 8080; wget -q -O - 127.0.0.1:8080/crash-${i}. ; exit 3`;
    const id = await node.runtime.kubelet.startContainer(pod.sandbox!, ["sh", "-c", script], `main-${i}`);
    codes.push(await node.runtime.kubelet.ended(id));
  }
  assertEquals(codes, Array(5).fill(3));
  record.happened(`${codes.length} containers of the pod exited with 3`);
  const start = performance.now();
  const lives = async () => (await numbersOf(node, pod, "crash")).size;
  await waitFor("packets of each life", async () => await lives() === codes.length, { everyMs: 50 });
  const seconds = since(start);
  assertEquals((await node.capturing(pod)).pid, pid, "one capture for all its lives");
  record.right({ seconds, packetsLost: codes.length - await lives(), leftovers: await cleanUp(node, [pod]) });
});

fault("completed-job", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  const pod = await node.startPod("job", WANTED);
  await node.capturing(pod);
  const script = "httpd -p 8080; for i in 0 1 2 3 4 5 6 7 8 9; do wget -q -O - 127.0.0.1:8080/job-$i. ; done; exit 0";
  const command = ["sh", "-c", script];
  const id = await node.runtime.kubelet.startContainer(pod.sandbox!, command);
  assertEquals(await node.runtime.kubelet.ended(id), 0);
  await setStatus(node, pod, { phase: "Succeeded" });
  await node.runtime.kubelet.stopPod(pod.sandbox!);
  const { status } = await node.server.call("GET", `/api/v1/namespaces/default/pods/${pod.name}`);
  record.happened(`its container exited with 0, the API has phase ${status.phase}, its sandbox was stopped`);
  const start = performance.now();
  await node.inState(pod, "pending");
  await waitFor("no process", async () => await node.processOf(pod) === undefined);
  const seconds = since(start);
  const packetsLost = 10 - (await numbersOf(node, pod, "job")).size;
  assertEquals(packetsLost, 0);
  // Also for a controller that comes later its files are kept, and nothing starts.
  await controller.stop();
  await using again = await node.startController();
  await again.says(/pods listed/);
  // When one that is asked for later captures, and has for a while, this one would have been started, too.
  const marker = await node.startPod("marker", WANTED);
  await node.capturing(marker);
  await hears(node, marker);
  const { length } = again.lines.filter((line) => line.includes(pod.uid) && /capture listening|nsenter/.test(line));
  assertEquals(length, 0, again.log);
  assertEquals((await node.processes()).map(({ folder }) => folder), [node.folderOf(marker)]);
  await node.inState(pod, "finished");
  assertEquals((await numbersOf(node, pod, "job")).size, 10);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod, marker]) });
});

fault("static-pod", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  // The runtime has it by the hash of its file, the API by the mirror object's own UID.
  const hash = crypto.randomUUID().replaceAll("-", "");
  const mirror = { "kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash };
  const pod = await node.createPod("static-node-1", { annotations: { ...mirror, [KEY]: "5" } });
  pod.sandbox = await node.runtime.kubelet.runPod({ name: pod.name, uid: hash });
  assert(pod.sandbox.uid !== pod.uid);
  record.happened(`the API knows ${pod.uid}, the runtime ${hash}`);
  const start = performance.now();
  await inItsNetns(node, pod);
  await hears(node, pod);
  // The kubelet makes the mirror object again when somebody deletes it; the pod goes on all the while.
  await node.server.deletePod(pod.name);
  const again = { ...await node.createPod(pod.name, { annotations: { ...mirror, [KEY]: "5" } }), sandbox: pod.sandbox };
  await waitFor("the new object's UID", async () => (await node.manifest(again))?.uid === again.uid);
  await inItsNetns(node, again);
  const seconds = since(start);
  record.right({ seconds, packetsLost: await lost(node, again), leftovers: await cleanUp(node, [again]) });
});

fault("pod-50-restarts", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("restless", WANTED);
  await node.capturing(pod);
  const seen = new Set<string>([pod.sandbox!.id]);
  for (let i = 0; i < 50; i++) {
    const old = pod.sandbox!;
    await node.startSandbox(pod);
    seen.add(pod.sandbox!.id);
    await node.runtime.kubelet.removePod(old);
  }
  record.happened(`${seen.size - 1} further sandboxes of the pod`);
  const start = performance.now();
  await inItsNetns(node, pod);
  const seconds = since(start);
  const packetsLost = await lost(node, pod);
  // No more than N within a second.
  const files = async () => (await node.files(pod)).filter((name) => /\.pcap[0-9]*$/.test(name)).length;
  await waitFor("at most 5 files", async () => await files() <= 5, { timeoutMs: 5_000 });
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("eviction", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("evicted", WANTED);
  await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "last");
  await traffic.flows();
  const sent = await traffic.stop();
  await setStatus(node, pod, { phase: "Failed", reason: "Evicted", message: "The node was low on resource: memory." });
  await node.runtime.kubelet.removePod(pod.sandbox!);
  pod.sandbox = undefined;
  const { status } = await node.server.call("GET", `/api/v1/namespaces/default/pods/${pod.name}`);
  record.happened(`the API has phase ${status.phase}, reason ${status.reason}, its sandbox was removed`);
  const start = performance.now();
  await waitFor("no process", async () => await node.processOf(pod) === undefined, { everyMs: 10 });
  await node.inState(pod, "pending");
  const seconds = since(start);
  const packetsLost = sent - (await numbersOf(node, pod, "last")).size;
  assertEquals(packetsLost, 0, "its files are kept while the object is there");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("terminating", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("terminating", WANTED);
  const { pid } = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "term");
  await traffic.flows();
  await node.server.deletePod(pod.name, 90);
  const { metadata } = await node.server.call("GET", `/api/v1/namespaces/default/pods/${pod.name}`);
  assert(metadata.deletionTimestamp);
  const begin = performance.now();
  const seconds = bounded(8, 60);
  await lasting(`${seconds} s of its end`, () => since(begin) > seconds, async () => {
    assertEquals((await node.processOf(pod))?.pid, pid, "it is captured until its sandbox goes");
  }, { timeoutMs: (seconds + 60) * 1000 });
  record.happened(`it had a deletionTimestamp for ${since(begin).toFixed(0)} s`);
  const sent = await traffic.stop();
  await node.runtime.kubelet.removePod(pod.sandbox!);
  pod.sandbox = undefined;
  const start = performance.now();
  await waitFor("no process", async () => await node.processOf(pod) === undefined, { everyMs: 10 });
  const packetsLost = sent - (await numbersOf(node, pod, "term")).size;
  assertEquals(packetsLost, 0);
  const leftovers = await cleanUp(node, [pod]);
  record.right({ seconds: since(start), packetsLost, leftovers });
});
