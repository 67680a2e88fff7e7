/** The scene on which faults around the controller strike: pods that are captured, begin to be, and cease to be meanwhile. */
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { lasting, waitFor } from "../support/wait.ts";
import { type Controller, KEY, type NodeRig, type TestPod } from "../rig/node.ts";
import { bounded, type FaultRecord, since } from "./fault.ts";
import { cleanUp, healthy, hears, startController } from "./node.ts";
import { Traffic } from "./traffic.ts";

const WANTED = { annotations: { [KEY]: "5" } };

export interface Scene {
  readonly node: NodeRig;
  readonly controller: Controller;
  /** Captured all the while. */
  readonly stays: TestPod;
  /** Captured since `change`. */
  readonly begins: TestPod;
  /** Pods made by the test, to be tidied up. */
  readonly others: TestPod[];
  /** The annotation of one pod is removed, another gets one: to be carried out once the controller can know of it. */
  change(): Promise<void>;
  /** Waits until what `change` asked for is so. */
  changed(timeoutMs?: number): Promise<void>;
  /** Waits until `done`, or for so many seconds; at every look the capture that stays must go on and /healthz say 200. */
  lasts(what: string, done: number | (() => boolean | Promise<boolean>)): Promise<void>;
}

/**
 * Plays one fault: three pods, the fault and `change()` in `play`, then all must be right.
 *
 * @param play gives the moment (`performance.now()`) from which the time until all is right counts: that of a fault of a moment,
 * or the end of one that lasts.
 */
export async function playFault(
  record: FaultRecord,
  node: NodeRig,
  play: (scene: Scene) => Promise<number>,
  ...options: Parameters<NodeRig["startController"]>
): Promise<void> {
  try {
    await using controller = await startController(node, ...options);
    const [stays, ends, begins] = await Promise.all([
      node.startPod("stays", WANTED),
      node.startPod("ends", WANTED),
      node.startPod("begins"),
    ]);
    const { pid } = await node.capturing(stays, 20_000);
    await node.capturing(ends, 20_000);
    await hears(node, stays);
    const traffic = await Traffic.start(node, stays, "fault");
    const others: TestPod[] = [];
    const goesOn = async () => {
      assertEquals((await node.processOf(stays))?.pid, pid, "the capture that stays has not gone on");
      await healthy(controller);
    };
    const scene: Scene = {
      node,
      controller,
      stays,
      begins,
      others,
      async change() {
        await Promise.all([node.annotate(ends, { "": null }), node.annotate(begins, { "": "5" })]);
      },
      async changed(timeoutMs = 60_000) {
        await Promise.all([node.capturing(begins, timeoutMs), node.clean(ends, timeoutMs)]);
      },
      async lasts(what, done) {
        const start = performance.now();
        const over = typeof done === "number" ? () => since(start) > done : done;
        const timeoutMs = bounded(60_000, 400_000);
        await lasting(what, over, goesOn, { timeoutMs, everyMs: 100 });
      },
    };
    const from = await play(scene);
    await scene.changed();
    const seconds = since(from);
    await goesOn();
    await hears(node, begins);
    const sent = await traffic.stop();
    const numbers = async () => new Set(await node.received(stays, "fault"));
    await waitFor("the last packet", async () => (await numbers()).has(sent - 1), { timeoutMs: 10_000 });
    const packetsLost = sent - (await numbers()).size;
    assertEquals(packetsLost, 0, `${packetsLost} of ${sent} packets lost`);
    await node.proxy.calm();
    const leftovers = await cleanUp(node, [stays, ends, begins, ...others], 30_000);
    record.right({ seconds, packetsLost, leftovers });
  } finally {
    await node.proxy.calm();
  }
}
