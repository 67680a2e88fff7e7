/** A pod on the node's network: refused, unless the chart's allowHostNetworkPods is true. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { basename, join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { exists, KEY, NodeRig, numbersIn } from "../../rig/node.ts";

// The controller shares the machine's network here, so that all that is recorded has to be our own: all of 127/8 is the machine's
// loopback, and nobody else sends to this address of it.
const ADDRESS = `127.77.${Deno.pid >> 8 & 255}.${Deno.pid & 255 || 1}`;

async function send(token: string): Promise<void> {
  await run(["bash", "-c", `echo "$1-1" >/dev/udp/${ADDRESS}/9 || true`, "bash", token]);
}

Deno.test("the controller and a pod on the node's network", async (t) => {
  await using node = await NodeRig.start();
  const annotations = { [KEY]: "2", [`${KEY}/interface`]: "lo", [`${KEY}/filter`]: `udp and dst host ${ADDRESS}` };
  const pod = await node.startPod("host", { annotations, hostNetwork: true });

  await t.step("refuses it, says why, and starts nothing", async () => {
    await using controller = await node.startController();
    const { note, type } = await node.hasEvent(pod, "CaptureRejected");
    assertEquals(type, "Warning");
    assert(note.includes("allowHostNetworkPods"), note);
    assertEquals(await node.processOf(pod), undefined);
    assert(!await exists(node.folderOf(pod)));
    assertEquals((await controller.stop()).code, 0);
  });

  await t.step("captures it in its own network, without nsenter, where that is allowed", async () => {
    await using controller = await node.startController({ ALLOW_HOST_NETWORK_PODS: "true" });
    const { argv, netns } = await node.capturing(pod);
    assertEquals(basename(argv[0]!), "tcpdump"); // Deno hands a program its path where PATH had to be searched.
    assertEquals(netns, await Deno.readLink(`/proc/${controller.pid}/ns/net`));
    await waitFor("the packet", async () => {
      await send("host");
      for (const name of await node.files(pod)) {
        if ((await numbersIn(join(node.folderOf(pod), name), "host")).length > 0) return true;
      }
      return false;
    }, { timeoutMs: 10_000, everyMs: 200 });
    await node.annotate(pod, { "": null });
    await node.clean(pod);
  });
  await node.deletePod(pod);
});
