/** Faults of the controller as a process, and of whose the capture directory is. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../support/wait.ts";
import { type Controller, exists, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, shared, since } from "./fault.ts";
import { cleanUp, clear, contents, hears, nothingLeft, startController } from "./node.ts";
import { Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());
const TWENTY = Array.from({ length: 20 }, (_, i) => `many-${i}`);

/**
 * Kills a controller with 20 captures running, does `meanwhile` with the first ten, starts another, and gives the seconds from
 * its start to the moment at which `right` and the captures of the other ten run again. Packets are counted of two of those ten,
 * and of what `counted` names besides.
 */
async function killedWithTwenty(
  node: NodeRig,
  meanwhile: (pods: readonly TestPod[]) => Promise<unknown>,
  right: (pods: readonly TestPod[]) => Promise<unknown>,
  { later = () => [], counted = [] }: { later?: () => readonly TestPod[]; counted?: readonly number[] } = {},
): Promise<{ proof: string; seconds: number; packetsLost: number }> {
  const first = await startController(node);
  const pods = await Promise.all(TWENTY.map((name) => node.startPod(name, { annotations: { [KEY]: "2" } })));
  await Promise.all(pods.map((pod) => node.capturing(pod, 30_000)));
  const traffics = await Promise.all([...counted, 10, 19].map((i) => Traffic.start(node, pods[i]!, "twenty")));
  await Promise.all(traffics.map((traffic) => traffic.flows()));
  const { pid } = first;
  const { signal } = await first.end("SIGKILL");
  assertEquals(signal, "SIGKILL");
  const outlived = (await node.processes()).length;
  assertEquals(outlived, 20, "they go on without the controller");
  await meanwhile(pods.slice(0, 10));
  await using second = await node.startController({}, { ready: false });
  const start = performance.now();
  const all = () =>
    Promise.all([right(pods.slice(0, 10)), ...pods.slice(10).map((pod) => node.capturing(pod, 30_000))]);
  await all();
  // Not yet the end: the last process may be that of the killed controller.
  await second.ready();
  await all();
  const seconds = since(start);
  await Promise.all(traffics.map(({ pod }) => hears(node, pod)));
  const ends = await Promise.all(traffics.map((traffic) => traffic.end()));
  for (const { packetsLost, sent, perSecond } of ends) {
    // What the kernel holds for one second when a tcpdump of the killed controller is ended, and what comes until the next listens.
    const most = perSecond * (seconds + 1.5);
    assert(packetsLost <= most, `${packetsLost} of ${sent} lost at ${perSecond.toFixed(0)} a second in ${seconds} s`);
  }
  const left = await Promise.all(pods.map((pod) => exists(node.folderOf(pod))));
  assertEquals(left.slice(10), Array(10).fill(true));
  await Promise.all(later().map((pod) => node.deletePod(pod)));
  await cleanUp(node, later().length > 0 ? pods.slice(10) : pods);
  return {
    proof:
      `process ${pid} ended by ${signal}, ${outlived} tcpdump went on; packets of ${ends.length} pods were counted`,
    seconds,
    packetsLost: Math.max(...ends.map(({ packetsLost }) => packetsLost)),
  };
}

fault("controller-killed-annotation-removed", async (record) => {
  const node = await rig();
  const { proof, ...right } = await killedWithTwenty(
    node,
    (pods) => Promise.all(pods.map((pod) => node.annotate(pod, { "": null }))),
    (pods) => Promise.all(pods.map((pod) => node.clean(pod, 30_000))),
  );
  record.happened(proof);
  record.right({ ...right, leftovers: await nothingLeft(node) });
});

fault("controller-killed-changed", async (record) => {
  const node = await rig();
  const { proof, ...right } = await killedWithTwenty(
    node,
    (pods) => Promise.all(pods.map((pod) => node.annotate(pod, { "": "3" }))),
    (pods) =>
      Promise.all(pods.map(async (pod) => {
        await waitFor(`-W 3 of ${pod.name}`, async () => (await node.processOf(pod))?.argv.join(" ").includes("-W 3"));
        await node.capturing(pod, 30_000);
      })),
    { counted: [0] },
  );
  record.happened(proof);
  record.right({ ...right, leftovers: await nothingLeft(node) });
});

fault("controller-killed-pod-deleted", async (record) => {
  const node = await rig();
  const { proof, ...right } = await killedWithTwenty(
    node,
    (pods) => Promise.all(pods.map((pod) => node.deletePod(pod))),
    (pods) => Promise.all(pods.map((pod) => node.clean(pod, 30_000))),
  );
  record.happened(proof);
  record.right({ ...right, leftovers: await nothingLeft(node) });
});

fault("controller-killed-pod-recreated", async (record) => {
  const node = await rig();
  let again: TestPod[] = [];
  const { proof, ...right } = await killedWithTwenty(
    node,
    async (pods) => {
      await Promise.all(pods.map((pod) => node.deletePod(pod)));
      again = await Promise.all(pods.map(({ name }) => node.startPod(name, { annotations: { [KEY]: "2" } })));
    },
    async () => {
      await Promise.all(again.map((pod) => node.inState(pod, "capturing", 30_000)));
      await Promise.all(again.map(async (pod) => {
        await waitFor(`the UID of ${pod.name}`, async () => (await node.manifest(pod))?.uid === pod.uid);
        const { netns } = await node.capturing(pod, 30_000);
        const own = (await Deno.stat(await node.netnsPath(pod))).ino;
        assertEquals(netns, `net:[${own}]`, "it captures in a namespace that is not the pod's");
      }));
    },
    { later: () => again },
  );
  record.happened(proof);
  record.right({ ...right, leftovers: await nothingLeft(node) });
});

fault("second-controller", async (record) => {
  const node = await rig();
  const first = await startController(node);
  const pod = await node.startPod("held", { annotations: { [KEY]: "5" } });
  const { pid } = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "held");
  await traffic.flows();
  await using second = await node.startController({ POD_NAME: "second" }, { ready: false });
  const line = await second.says(/waiting for captureDir/);
  assert(line.includes("packet-capture-test") && line.includes(String(first.pid)), line);
  const [status, text] = await second.get("/readyz");
  assertEquals(status, 503);
  assert(text.includes("is held by"), text);
  assertEquals((await second.get("/healthz"))[0], 200, "it waits, which is no reason to be killed");
  assertEquals((await node.capturing(pod)).pid, pid, "the first one's capture goes on");
  record.happened(`the second said that captureDir was held by process ${first.pid}, /readyz ${status}`);
  await first.end("SIGKILL");
  const start = performance.now();
  await second.ready();
  await waitFor("another tcpdump", async () => (await node.processOf(pod))?.pid !== pid);
  await node.capturing(pod);
  const seconds = since(start);
  await hears(node, pod);
  const { packetsLost, perSecond } = await traffic.end();
  assert(packetsLost <= perSecond * (seconds + 1.5), `${packetsLost} lost at ${perSecond} a second in ${seconds} s`);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("foreign-capture-dir", async (record) => {
  const node = await rig();
  const start = performance.now();
  const foreign = join(node.dir, "foreign");
  const cases: [string, Record<string, string>][] = [
    ["is not empty and has no marker file", { "data.txt": "precious", "default/web/capture-web.pcap0": "bytes" }],
    ["its marker file", {
      ".packet-capture": `{"annotationKey":"${KEY}","release":"another"}\n`,
      "default/web/capture.json": "{}",
    }],
    ["its marker file", { ".packet-capture": "", "data.txt": "precious" }],
  ];
  for (const [words, files] of cases) {
    await Deno.remove(foreign, { recursive: true }).catch(() => {});
    for (const [name, text] of Object.entries(files)) {
      await Deno.mkdir(join(foreign, name, ".."), { recursive: true });
      await Deno.writeTextFile(join(foreign, name), text);
    }
    const before = await contents(foreign);
    await using controller: Controller = await node.startController({ CAPTURE_DIR: foreign }, { ready: false });
    const { code } = await controller.exited;
    assertEquals(code, 2, controller.log);
    assert(controller.log.includes(words), controller.log);
    assertEquals(await contents(foreign), before, "it touched what is not its own");
  }
  await Deno.remove(foreign, { recursive: true });
  record.happened(`${cases.length} directories were refused with exit status 2`);
  record.right({ seconds: since(start), leftovers: 0 });
});

fault("event-loop-blocked", async (record) => {
  const node = await rig();
  await clear(node);
  const main = new URL("hooks/block.ts", import.meta.url).pathname;
  await using controller = await node.startController({ BLOCK_MS: "10000" }, { main });
  const [pod, other] = [await node.startPod("blocked", { annotations: { [KEY]: "5" } }), await node.createPod("late")];
  const { pid } = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "block");
  await traffic.flows();
  Deno.kill(controller.pid, "SIGUSR2");
  await controller.says(/^blocked$/);
  const answered = await controller.get("/healthz").then(() => true, () => false);
  assert(!answered, "it answered while it was blocked");
  record.happened("/healthz did not answer for 5 s");
  await node.startSandbox(other);
  await node.annotate(other, { "": "2" });
  await controller.says(/^turning again$/, 20_000);
  const start = performance.now();
  await node.capturing(other);
  const seconds = since(start);
  assertEquals((await node.capturing(pod)).pid, pid, "the capture that ran goes on");
  const { packetsLost } = await traffic.end();
  assertEquals(packetsLost, 0);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod, other]) });
});
