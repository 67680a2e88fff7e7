/** The controller without file descriptors or processes to spare. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { type Controller, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, type FaultRecord, shared, since } from "./fault.ts";
import { cleanUp, healthy, hears, startController } from "./node.ts";
import { Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());

/** With something exhausted: what runs goes on, what is asked for meanwhile starts once there is enough again. */
async function exhausted(
  record: FaultRecord,
  node: NodeRig,
  controller: Controller,
  exhaust: (pid: number) => Promise<string>,
  relieve: (pid: number) => Promise<unknown>,
): Promise<void> {
  const [pod, edited] = await Promise.all(
    ["before", "edited"].map((name) => node.startPod(name, { annotations: { [KEY]: "5" } })),
  ) as [TestPod, TestPod];
  const later = await Promise.all(["late-1", "late-2", "late-3"].map((name) => node.startPod(name)));
  const { pid } = await node.capturing(pod);
  await node.capturing(edited);
  const traffic = await Traffic.start(node, pod, "exhausted");
  await traffic.flows();
  record.happened(await exhaust(controller.pid));
  await using _probes = probe(controller);
  await Promise.all(later.map((pod) => node.annotate(pod, { "": "2" })));
  await node.annotate(edited, { "": "3" });
  const failure = /(capture|reconcile) failed/;
  const line = await controller.says(failure, 20_000);
  await waitFor("three failures", () => controller.lines.filter((line) => failure.test(line)).length >= 9);
  record.happened(`the log said ${/(problem|error)=("[^"]*"|\S+)/.exec(line)?.[2] ?? line}`);
  assertEquals((await node.capturing(pod)).pid, pid, "the capture that ran goes on");
  await hears(node, pod);
  await relieve(controller.pid);
  const start = performance.now();
  await Promise.all([...later, edited].map((pod) => node.capturing(pod, 60_000)));
  const seconds = since(start);
  assertEquals((await node.capturing(pod)).pid, pid, "the capture that ran went on all the while");
  await healthy(controller);
  assert(/-W 3 /.test((await node.capturing(edited)).argv.join(" ")));
  await controller.ready();
  for (const each of [pod, edited, ...later]) {
    await hears(node, each);
    // Starts that came to nothing are no runs of the capture.
    const { runs } = await node.manifest(each);
    assert(runs.length <= (each === edited ? 2 : 1), `${runs.length} runs of ${each.name}`);
  }
  const { packetsLost } = await traffic.end();
  assertEquals(packetsLost, 0, "packets of the capture that ran");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod, edited, ...later]) });
}

/** Asks /healthz as a kubelet does, on a connection of its own each time, whatever comes of it, until the scope ends. */
function probe({ port }: Controller): AsyncDisposable {
  let over = false;
  const asking = (async () => {
    while (!over) {
      await ask(port).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      over = true;
      await asking;
    },
  };
}

async function ask(port: number): Promise<void> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  await connection.write(new TextEncoder().encode("GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"));
}

fault("out-of-file-descriptors", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  await exhausted(record, node, controller, async (pid) => {
    const open = Array.from(Deno.readDirSync(`/proc/${pid}/fd`)).length;
    await run(["prlimit", `--pid=${pid}`, `--nofile=${open}:`]);
    return `prlimit left ${open} file descriptors, all of them open`;
  }, (pid) => run(["prlimit", `--pid=${pid}`, "--nofile=1024:"]));
});

fault("out-of-pids", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  const group = await pidsCgroup();
  try {
    await exhausted(record, node, controller, async (pid) => {
      await Deno.writeTextFile(join(group, "cgroup.procs"), String(pid));
      const now = Number(await Deno.readTextFile(join(group, "pids.current")));
      await Deno.writeTextFile(join(group, "pids.max"), String(now));
      return `the pids cgroup took ${now} processes and threads, all of them there`;
    }, () => Deno.writeTextFile(join(group, "pids.max"), "max"));
  } finally {
    await controller.end("SIGKILL");
    for (const { pid } of await node.processes()) Deno.kill(pid, "SIGKILL");
    await waitFor("an empty cgroup", async () => (await attempt(["rmdir", group])).code === 0, { everyMs: 50 });
  }
});

/** A cgroup of our own that counts processes. */
async function pidsCgroup(): Promise<string> {
  const v1 = await Deno.stat("/sys/fs/cgroup/pids").then(() => true, () => false);
  const root = v1 ? "/sys/fs/cgroup/pids" : "/sys/fs/cgroup";
  if (!v1) await Deno.writeTextFile(join(root, "cgroup.subtree_control"), "+pids");
  const group = join(root, `packet-capture-faults-${Deno.pid}`);
  await Deno.mkdir(group);
  return group;
}
