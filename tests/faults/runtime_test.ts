/** Faults of the container runtime: of a real containerd itself, or made by a proxy in front of it. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { GrpcCode } from "../../src/sandboxes/grpc.ts";
import { run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { CriProxy } from "../rig/cri_proxy.ts";
import { KEY, NodeRig } from "../rig/node.ts";
import { bounded, fault, type FaultRecord, impatient, shared, since } from "./fault.ts";
import { cleanUp, hears, startController } from "./node.ts";
import { playFault, type Scene } from "./scene.ts";
import { numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());
const WANTED = { annotations: { [KEY]: "5" } };

/** Once the fault is over, a pod that is made again is captured too; gives since when the fault is over. */
async function newPod({ node, others }: Scene, over: number): Promise<number> {
  const pod = await node.startPod("new", WANTED);
  others.push(pod);
  await node.capturing(pod, 60_000);
  await hears(node, pod);
  return over;
}

/** A fault of the replies to the controller alone: the test's kubelet goes on making pods. */
function proxyFault(
  id: string,
  play: (scene: Scene, record: FaultRecord, proxy: CriProxy, socket: string) => Promise<number>,
): void {
  fault(id, async (record) => {
    const node = await rig();
    const socket = join(await Deno.makeTempDir({ prefix: "packet-capture-cri-" }), "cri.sock");
    try {
      await using proxy = await CriProxy.start(socket, node.runtime.socket);
      await playFault(record, node, (scene) => play(scene, record, proxy, socket), { CRI_SOCKET: socket });
    } finally {
      await Deno.remove(join(socket, ".."), { recursive: true });
    }
  });
}

fault("runtime-restarted", async (record) => {
  const node = await rig();
  await playFault(record, node, async (scene) => {
    const old = node.runtime.runtimePid;
    await node.runtime.killRuntime();
    await scene.controller.says(/the sandboxes found before are kept/, 30_000);
    // What is known suffices for both.
    await scene.change();
    await scene.changed();
    await node.runtime.startRuntime();
    assert(old !== node.runtime.runtimePid);
    record.happened(`process ${old} was killed, ${node.runtime.runtimePid} runs`);
    const back = performance.now();
    await scene.controller.says(/the container runtime answers again/, 30_000);
    return await newPod(scene, back);
  });
});

fault("runtime-stopped", async (record) => {
  const node = await rig();
  const seconds = bounded(20, 60);
  await playFault(record, node, async (scene) => {
    const { controller } = scene;
    const ready = async () => (await controller.get("/readyz"))[0] === 200;
    const start = performance.now();
    node.runtime.pauseRuntime();
    try {
      const pid = node.runtime.runtimePid;
      await waitFor("it to be stopped", async () => /^State:\tT/m.test(await Deno.readTextFile(`/proc/${pid}/status`)));
      await scene.change();
      await scene.changed();
      await scene.lasts("/readyz that turns bad", async () => !await ready());
      const after = since(start);
      // Nobody can ask the runtime about it, but a tcpdump that dies has its successor all the same.
      const { pid: victim } = await node.capturing(scene.begins);
      Deno.kill(victim, "SIGKILL");
      const killed = performance.now();
      await waitFor("its successor", async () => ((await node.processOf(scene.begins))?.pid ?? victim) !== victim, {
        everyMs: 20,
      });
      const restarted = since(killed);
      assert(restarted < 4, `tcpdump was started again after ${restarted} s: it waited for the runtime`);
      await scene.lasts(`${seconds} s`, () => since(start) > seconds);
      assert(controller.lines.some((line) => /did not answer within/.test(line)), controller.log);
      record.happened(
        `process ${pid} was stopped for ${since(start).toFixed(0)} s, /readyz said 503 after ${after.toFixed(0)} s`,
      );
    } finally {
      node.runtime.resumeRuntime();
    }
    const back = performance.now();
    await controller.says(/the container runtime answers again/, 60_000);
    await waitFor("/readyz", ready);
    return await newPod(scene, back);
  }, ...impatient({ controller: { runtimeSilent: 7_000 } }));
});

proxyFault("runtime-socket-recreated", async (scene, record, proxy, socket) => {
  const { node } = scene;
  // The old process still has its connections, but answers no more.
  proxy.fault("*", { hang: true });
  const { ino: old } = await Deno.lstat(socket);
  await Deno.remove(socket);
  await using other = await CriProxy.start(socket, node.runtime.socket);
  const { ino } = await Deno.lstat(socket);
  assert(ino !== old);
  const start = performance.now();
  await scene.change();
  await scene.lasts("a call on the new socket", () => (other.calls["ListPodSandbox"] ?? 0) > 0);
  record.happened(`inode ${old} became ${ino}, ${proxy.faulted} calls to the old one had no answer`);
  await newPod(scene, start);
  await scene.changed();
  return start;
});

proxyFault("runtime-slow", async (scene, record, proxy) => {
  // Longer than anybody waits for a reply, which so comes when nobody waits for it any more.
  const [delay, seconds] = [bounded(8, 30), bounded(20, 70)];
  proxy.fault("*", { delayMs: delay * 1000 });
  const start = performance.now();
  await scene.change();
  await scene.changed();
  const late = await scene.node.startPod("late", WANTED);
  scene.others.push(late);
  await scene.lasts("two calls without answer in time", () => proxy.faulted >= 2 && since(start) > seconds);
  assertEquals(await scene.node.processOf(late), undefined, "nobody could know its sandbox");
  record.happened(`${proxy.faulted} calls answered after ${delay} s, for ${since(start).toFixed(0)} s`);
  proxy.fault("*", undefined);
  const back = performance.now();
  await scene.node.capturing(late, 60_000);
  return await newPod(scene, back);
});

proxyFault("runtime-errors", async (scene, record, proxy) => {
  const errors = ["INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"] as const;
  await scene.change();
  for (const name of errors) {
    proxy.fault("*", { error: { code: GrpcCode[name], details: `${name}: made by the proxy` } });
    const before = proxy.faulted;
    await scene.lasts(`two replies ${name}`, () => proxy.faulted >= before + 2);
  }
  await scene.changed();
  const late = await scene.node.startPod("late", WANTED);
  scene.others.push(late);
  await scene.lasts("more errors", () => proxy.faulted >= 10);
  record.happened(`${proxy.faulted} replies with errors: ${errors.join(", ")}`);
  proxy.fault("*", undefined);
  const back = performance.now();
  await scene.node.capturing(late, 60_000);
  return back;
});

fault("sandbox-without-netns", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  const pod = await node.startPod("hollow", WANTED);
  await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "hollow");
  await traffic.flows();
  const { sent } = await traffic.end();
  const hollow = pod.sandbox!;
  const netns = await node.netnsPath(pod);
  const start = performance.now();
  await run(node.runtime.enter(["umount", netns.replace(/^.*\/run\/netns/, "/run/netns")]));
  await Deno.remove(netns);
  const listed = (await node.runtime.kubelet.sandboxes()).find(({ id }) => id === hollow.id);
  assert(listed?.ready, "the runtime no longer lists it");
  record.happened("its netns file has gone, the runtime lists it as READY");
  await waitFor("no process", async () => await node.processOf(pod) === undefined, { everyMs: 10 });
  await node.inState(pod, "pending");
  const seconds = since(start);
  // What a kubelet does about it; its files stay and a run follows.
  await node.runtime.kubelet.removePod(hollow);
  await node.startSandbox(pod);
  const own = `net:[${(await Deno.stat(await node.netnsPath(pod))).ino}]`;
  assertEquals((await node.capturing(pod, 30_000)).netns, own);
  await hears(node, pod);
  assertEquals((await controller.get("/readyz"))[0], 200);
  const packetsLost = sent - (await numbersOf(node, pod, "hollow")).size;
  assertEquals(packetsLost, 0, "packets that were in its files");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});
