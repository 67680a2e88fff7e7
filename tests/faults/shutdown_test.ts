/** The controller's end with very many captures, within the time that a kubelet gives it, and with their last packets. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { NodeRig, type TestPod } from "../rig/node.ts";
import { allCaptured, each, ROOMY, startCrowd } from "./crowd.ts";
import { fault, since } from "./fault.ts";
import { cleanUp, startController, unreadable } from "./node.ts";

const CAPTURES = 100;
const PACKETS = 20;

fault("shutdown-100", async (record) => {
  await using node = await NodeRig.start();
  await using controller = await startController(node, { ...ROOMY, LOG_LEVEL: "info" });
  const pods = await startCrowd(node, CAPTURES, "2");
  await allCaptured(node, new Map(pods.map((pod) => [pod, "2"])), 180_000);
  const running = (await node.processes()).length;
  assertEquals(running, CAPTURES);
  await each(pods, (pod) => node.send(pod, "last", PACKETS));
  const start = performance.now();
  const { code } = await controller.stop();
  const seconds = since(start);
  record.happened(`SIGTERM while ${running} tcpdump ran; exit code ${code} after ${seconds.toFixed(1)} s`);
  assertEquals(code, 0);
  assertEquals(await node.processes(), [], "processes that outlive the controller");
  const lost: string[] = [];
  await each(pods, async (pod) => {
    const numbers = await numbersOf(node, pod);
    for (let i = 0; i < PACKETS; i++) if (!numbers.has(i)) lost.push(`${pod.name} ${i}`);
    assertEquals(await unreadable(node, pod), []);
    assert((await Deno.stat(join(node.folderOf(pod), "capture.json"))).isFile);
  });
  assertEquals(lost, []);
  // The next controller goes on with all of them; then all is tidied up.
  await using next = await node.startController({ ...ROOMY, LOG_LEVEL: "info" }, { ready: false });
  await next.ready(120_000);
  await each(pods, (pod) => node.deletePod(pod));
  record.right({ seconds, packetsLost: lost.length, leftovers: await cleanUp(node, [], 180_000) });
});

/** Numbers of the packets that are in the pod's files. (tshark would take a second for each of so many files.) */
async function numbersOf(node: NodeRig, pod: TestPod): Promise<Set<number>> {
  const numbers = new Set<number>();
  for (const name of await node.files(pod)) {
    const text = new TextDecoder("latin1").decode(await Deno.readFile(join(node.folderOf(pod), name)));
    for (const [, number] of text.matchAll(/last-([0-9]+)\n/g)) numbers.add(Number(number));
  }
  return numbers;
}
