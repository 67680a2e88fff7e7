/** Faults of the tcpdump process and of the interface that it listens on. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../support/run.ts";
import { lasting, waitFor } from "../support/wait.ts";
import { KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { bounded, fault, impatient, shared, since } from "./fault.ts";
import { cleanUp, healthy, hears, startController } from "./node.ts";
import { numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());

fault("tcpdump-killed", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("killed", { annotations: { [KEY]: "5" } });
  const before = await node.capturing(pod);
  await hears(node, pod);
  const traffic = await Traffic.start(node, pod, "kill");
  await traffic.flows();
  const start = performance.now();
  Deno.kill(before.pid, "SIGKILL");
  await waitFor("its death", async () => (await node.processOf(pod))?.pid !== before.pid, { everyMs: 5 });
  record.happened(`process ${before.pid} had gone`);
  const now = await node.capturing(pod);
  const seconds = since(start);
  assert(now.pid !== before.pid);
  await hears(node, pod);
  const { packetsLost, sent, perSecond } = await traffic.end();
  // One second of the kernel's block, and the gap.
  assert(packetsLost <= perSecond * (seconds + 1.5), `${packetsLost} of ${sent} lost`);
  const { note } = await node.hasEvent(pod, "CaptureRestarted");
  assert(/SIGKILL/.test(note), note);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("tcpdump-stopped", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("stopped", { annotations: { [KEY]: "5" } });
  const { pid } = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "stop");
  await traffic.flows();
  const start = performance.now();
  Deno.kill(pid, "SIGSTOP");
  await waitFor("state T", async () => / T /.test(await Deno.readTextFile(`/proc/${pid}/stat`)), { everyMs: 5 });
  record.happened(`process ${pid} was in state T`);
  await waitFor("another tcpdump", async () => (await node.processOf(pod))?.pid !== pid, { timeoutMs: 30_000 });
  await node.capturing(pod);
  const seconds = since(start);
  await hears(node, pod);
  const { packetsLost, sent, perSecond } = await traffic.end();
  assert(packetsLost <= perSecond * (seconds + 1.5), `${packetsLost} of ${sent} lost`);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("tcpdump-exits-in-a-loop", async (record) => {
  const node = await rig();
  const program = join(node.dir, "tcpdump");
  await Deno.writeTextFile(program, `#!/bin/sh\necho x >>${program}.starts\necho "tcpdump: no luck" >&2\nexit 1\n`);
  await Deno.chmod(program, 0o755);
  await using controller = await startController(node, { TCPDUMP: program });
  const pod = await node.startPod("loop", { annotations: { [KEY]: "5" } });
  const begin = performance.now();
  const starts = async () => (await Deno.readTextFile(`${program}.starts`).catch(() => "")).length / 2;
  await waitFor("the 5th start", async () => await starts() >= 5, { timeoutMs: 30_000, everyMs: 50 });
  // 0.25 + 0.5 + 1 + 2 s of back-off, less its quarter.
  assert(since(begin) > 2.5, `5 starts in ${since(begin)} s: no back-off`);
  record.happened(`tcpdump had exited ${await starts()} times`);
  const { note } = await node.hasEvent(pod, "CaptureFailed");
  assert(note.includes("no luck"), note);
  assert((await controller.metric(`packet_capture_failures_total{reason="exit"}`) ?? 0) >= 4);
  // Its runs that captured nothing leave no files behind.
  assertEquals(await node.files(pod), []);
  const start = performance.now();
  await run(["ln", "-sf", (await run(["which", "tcpdump"])).trim(), program]);
  await node.capturing(pod, 45_000);
  const seconds = since(start);
  await hears(node, pod);
  record.right({ seconds, leftovers: await cleanUp(node, [pod]) });
});

fault("filter-matches-nothing", async (record) => {
  const node = await rig();
  await using controller = await startController(node, ...impatient({ health: { silence: 5 } }));
  const pod = await node.startPod("silent", { annotations: { [KEY]: "5", [`${KEY}/filter`]: "udp port 7777" } });
  const { pid } = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "none");
  // Counters are asked for every few seconds: by then tcpdump has said that nothing passed.
  await waitFor("counters", async () => (await controller.metric(series("packets_total", pod.name))) === 0, {
    timeoutMs: 10_000,
  });
  const { note } = await node.hasEvent(pod, "CaptureNoPackets", bounded(30_000, 90_000));
  assert(/with filter udp port 7777; the pod has .*eth0/.test(note), note);
  const sent = await traffic.stop();
  assert(sent > 0);
  assertEquals((await numbersOf(node, pod, "none")).size, 0);
  record.happened(`tcpdump had counted 0 of ${sent} packets: ${note}`);
  const start = performance.now();
  assertEquals((await node.capturing(pod)).pid, pid, "silence is no failure");
  await node.annotate(pod, { filter: "udp port 9" });
  await waitFor("another filter", async () => (await node.processOf(pod))?.argv.at(-1) === "udp port 9");
  await node.capturing(pod);
  const seconds = since(start);
  const after = await Traffic.start(node, pod, "after");
  await after.flows();
  const { packetsLost } = await after.end();
  assertEquals(packetsLost, 0, "with a filter that matches");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("interface-vanishes", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const pod = await node.startPod("vanish", { annotations: { [KEY]: "5", [`${KEY}/interface`]: "probe0" } });
  await node.hasEvent(pod, "CaptureFailed");
  const ip = async (...words: string[]) => await run(await node.inNetns(pod, ["ip", "link", ...words]));
  await ip("add", "probe0", "type", "veth", "peer", "probe1");
  await ip("set", "probe0", "up");
  const { pid } = await node.capturing(pod, 45_000);
  await ip("delete", "probe0");
  await waitFor("the end of tcpdump", async () => (await node.processOf(pod))?.pid !== pid, { everyMs: 20 });
  record.happened(`probe0 was deleted and process ${pid} had gone`);
  await waitFor("the failure's note", async () => {
    return (await node.events(pod)).some(({ reason, note }) =>
      reason === "CaptureFailed" && /No such device|disappeared/.test(note)
    );
  });
  const start = performance.now();
  await ip("add", "probe0", "type", "veth", "peer", "probe1");
  await ip("set", "probe0", "up");
  await ip("set", "probe1", "up");
  await run(await node.inNetns(pod, ["ip", "address", "add", "10.9.9.1/24", "dev", "probe0"]));
  await node.capturing(pod, 45_000);
  const seconds = since(start);
  await asks(node, pod, "10.9.9.7");
  record.right({ seconds, leftovers: await cleanUp(node, [pod]) });
});

fault("interface-down", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  const pod = await node.startPod("down", { annotations: { [KEY]: "5", [`${KEY}/interface`]: "eth0" } });
  const { pid } = await node.capturing(pod);
  await asks(node, pod, "10.244.9.241");
  const ip = async (...words: string[]) => await run(await node.inNetns(pod, ["ip", ...words]));
  const state = async () => /state (\S+)/.exec(await ip("-o", "link", "show", "eth0"))?.[1];
  await ip("link", "set", "eth0", "down");
  const down = performance.now();
  // Longer than it takes to find out, and to try again.
  await lasting("4 s", () => since(down) > 4, async () => {
    assertEquals(await state(), "DOWN");
    await healthy(controller);
  });
  const ended = (await node.processOf(pod))?.pid !== pid;
  record.happened(
    `ip link said state DOWN of eth0 for ${since(down).toFixed(0)} s; tcpdump ${ended ? "ended" : "went on"}`,
  );
  await ip("link", "set", "eth0", "up");
  const start = performance.now();
  await asks(node, pod, "10.244.9.242");
  const seconds = since(start);
  assertEquals((await node.capturing(pod)).pid, pid);
  assert(await sees(node, pod, "10.244.9.241"), "packets that came before have gone");
  record.right({ seconds, leftovers: await cleanUp(node, [pod]) });
});

/** Has the pod ask who has an address that nobody has, and says whether an ARP request for it is in the pod's files. */
async function asked(node: NodeRig, pod: TestPod, address: string): Promise<boolean> {
  await attempt(await node.inNetns(pod, ["bash", "-c", `echo x >/dev/udp/${address}/9`]));
  return await sees(node, pod, address);
}

async function asks(node: NodeRig, pod: TestPod, address: string): Promise<void> {
  await waitFor(`an ARP request for ${address}`, () => asked(node, pod, address), { timeoutMs: 45_000 });
}

async function sees(node: NodeRig, pod: TestPod, address: string): Promise<boolean> {
  // The hardware address that is asked for is six zeros, then comes the address.
  const sought = String.fromCharCode(0, 0, 0, 0, 0, 0, ...address.split(".").map(Number));
  for (const name of await node.files(pod)) {
    const bytes = await Deno.readFile(join(node.folderOf(pod), name)).catch(() => new Uint8Array());
    if (new TextDecoder("latin1").decode(bytes).includes(sought)) return true;
  }
  return false;
}

function series(name: string, pod: string): string {
  return `packet_capture_${name}{namespace="default",pod="${pod}"}`;
}
