/** Strangers at the controller's HTTP port: who reaches it may cost the captures nothing. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { waitFor } from "../support/wait.ts";
import { denoArgs } from "../rig/cli.ts";
import { KEY, NodeRig } from "../rig/node.ts";
import { bounded, fault, shared, since } from "./fault.ts";
import { cleanUp, hears, startController } from "./node.ts";
import { Traffic } from "./traffic.ts";

/** What the chart's liveness probe waits for an answer. */
const PROBE_MS = 5000;
const CONNECTIONS = 500;
/** Of one core. Serving the flood without limits takes all that there is. */
const MOST_CPU = 0.25;

const rig = shared(() => NodeRig.start());

/** Seconds of CPU that a process has taken, by /proc (100 ticks a second). */
async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await Deno.readTextFile(`/proc/${pid}/stat`)).replace(/^.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Connections from this machine to a local port that are established, also those that nobody has accepted. */
async function established(port: number): Promise<number> {
  const remote = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = (await Deno.readTextFile("/proc/net/tcp")).split("\n").map((line) => line.trim().split(/\s+/));
  return lines.filter((fields) => fields[2]?.endsWith(remote) && fields[3] === "01").length;
}

fault("metrics-flood", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  const pod = await node.startPod("flooded", { annotations: { [KEY]: "5" } });
  const { pid } = await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "flood");
  await traffic.flows();

  const program = new URL("flood.ts", import.meta.url).pathname;
  const flood = new Deno.Command(Deno.execPath(), {
    args: [...denoArgs(program), String(controller.port), String(CONNECTIONS)],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let most = 0;
  const slowest = { seconds: 0 };
  try {
    await waitFor("the flood", async () => (most = Math.max(most, await established(controller.port))) >= 400, {
      timeoutMs: 30_000,
      everyMs: 20,
    });
    const [start, cpu] = [performance.now(), await cpuSeconds(controller.pid)];
    let probes = 0;
    while (since(start) < bounded(15, 75)) {
      const asked = performance.now();
      const signal = AbortSignal.timeout(PROBE_MS);
      const response = await fetch(`http://127.0.0.1:${controller.port}/healthz`, { signal });
      assertEquals([response.status, await response.text()], [200, "ok\n"]);
      slowest.seconds = Math.max(slowest.seconds, since(asked));
      probes++;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    const share = (await cpuSeconds(controller.pid) - cpu) / since(start);
    assert(share <= MOST_CPU, `the controller took ${(100 * share).toFixed(0)} % of a core`);
    record.happened(`${most} connections at once were established`);
    record.happened(`${probes} probes were answered, the slowest after ${slowest.seconds.toFixed(1)} s`);
    record.happened(`the controller took ${(100 * share).toFixed(0)} % of a core`);
  } finally {
    await flood.stdin.close();
  }
  const { opened, bytes } = JSON.parse(new TextDecoder().decode((await flood.output()).stdout));
  assert(opened >= CONNECTIONS, `only ${opened} connections were opened`);
  record.happened(`${opened} connections sent ${(bytes / 1e6).toFixed(0)} MB of requests`);
  assertEquals((await node.capturing(pod)).pid, pid, "the capture went on all the while");
  await hears(node, pod);
  const { packetsLost } = await traffic.end();
  assertEquals(packetsLost, 0, "packets of the capture");
  record.right({ ...slowest, packetsLost, leftovers: await cleanUp(node, [pod]) });
});
