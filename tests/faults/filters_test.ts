/** Filters that cost much to compile. The controller has the memory and the CPU that the chart gives it by default. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { attempt } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { bounded, fault, shared, since } from "./fault.ts";
import { cleanUp, hears, startController } from "./node.ts";

const rig = shared(() => NodeRig.start());
const MEMORY = 512 * 2 ** 20;
const CORES = 0.5;

const ports = (n: number) => `port ${Array.from({ length: n }, (_, i) => i + 1).join("||")}`;
const asks = (filter: string) => ({ annotations: { [KEY]: "2", [`${KEY}/filter`]: filter } });

/** A cgroup of our own that limits memory or CPU. */
class Cgroup implements AsyncDisposable {
  private constructor(readonly path: string, readonly isV1: boolean) {}

  static async create(kind: "memory" | "cpu"): Promise<Cgroup> {
    const root = "/sys/fs/cgroup";
    const isV1 = await Deno.stat(join(root, kind)).then(() => true, () => false);
    if (!isV1) await Deno.writeTextFile(join(root, "cgroup.subtree_control"), `+${kind}`);
    const group = new Cgroup(join(root, isV1 ? kind : "", `packet-capture-filters-${kind}-${Deno.pid}`), isV1);
    await Deno.mkdir(group.path);
    return group;
  }

  async write(file: string, text: string): Promise<void> {
    await Deno.writeTextFile(join(this.path, file), text);
  }

  async limitMemory(bytes: number): Promise<void> {
    await this.write(this.isV1 ? "memory.limit_in_bytes" : "memory.max", String(bytes));
  }

  async limitCpu(cores: number): Promise<void> {
    if (this.isV1) await this.write("cpu.cfs_quota_us", String(cores * 100_000));
    else await this.write("cpu.max", `${cores * 100_000} 100000`);
  }

  /** How often the kernel has killed a process of the group for its memory. */
  async kills(): Promise<number> {
    const text = await Deno.readTextFile(join(this.path, this.isV1 ? "memory.oom_control" : "memory.events"));
    return Number(/^oom_kill ([0-9]+)$/m.exec(text)?.[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What a test that failed has left.
    const pids = (await Deno.readTextFile(join(this.path, "cgroup.procs"))).split("\n").filter(Boolean).map(Number);
    for (const pid of pids) Deno.kill(pid, "SIGKILL");
    await waitFor("an empty cgroup", async () => (await attempt(["rmdir", this.path])).code === 0, { everyMs: 50 });
  }
}

fault("filter-too-complex", async (record) => {
  const node = await rig();
  await using memory = await Cgroup.create("memory");
  await memory.limitMemory(MEMORY);
  const words = ["prlimit", `--as=${MEMORY}`, "--", "tcpdump", "-d", "-y", "LINUX_SLL2", "--", ports(1499)];
  assertEquals((await attempt(words)).stderr.trim(), "tcpdump: malloc");
  await using controller = await startController(node);
  await memory.write("cgroup.procs", String(controller.pid));
  const before = await node.startPod("before", { annotations: { [KEY]: "2" } });
  const { pid } = await node.capturing(before);
  const begin = performance.now();
  const pods = await Promise.all(
    ["complex-1", "complex-2", "complex-3"].map((name) => node.startPod(name, asks(ports(1499)))),
  );
  for (const pod of pods) {
    const { note } = await node.hasEvent(pod, "CaptureRejected", 30_000);
    assert(/filter is too complex: tcpdump needs more than 64 MB of memory to compile it/.test(note), note);
  }
  const seconds = since(begin);
  record.happened(`tcpdump -d with that filter ended in 512 MiB with "malloc"; ${pods.length} pods asked for it`);
  assertEquals(await memory.kills(), 0, "processes were killed for memory");
  assertEquals((await node.capturing(before)).pid, pid, "the capture beside them goes on");
  await hears(node, before);
  for (const pod of pods) {
    assertEquals((await node.events(pod)).map(({ reason }) => reason), ["CaptureRejected"]);
  }
  const leftovers = await cleanUp(node, [before, ...pods]);
  await controller.stop();
  record.right({ seconds, leftovers });
});

fault("filter-long-many-replicas", async (record) => {
  const node = await rig();
  await node.server.createNamespace("other");
  await using cpu = await Cgroup.create("cpu");
  await using controller = await startController(node, { MAX_CAPTURES: "100" });
  const filter = ports(bounded(300, 150));
  const pods: TestPod[] = [];
  for (let i = 0; i < bounded(5, 40); i++) pods.push(await node.startPod(`replica-${i}`));
  const others = await Promise.all([
    node.startPod("other", { namespace: "other" }),
    node.startPod("plain"),
  ]);
  await cpu.limitCpu(CORES);
  await cpu.write("cgroup.procs", String(controller.pid));
  const begin = performance.now();
  await Promise.all(pods.map((pod) => node.annotate(pod, { "": "2", filter })));
  await Promise.all(others.map((pod, i) => node.annotate(pod, { "": "2", ...(i === 0 ? { filter: "udp" } : {}) })));
  await Promise.all(others.map((pod) => node.capturing(pod, 10_000)));
  const beside = since(begin);
  await Promise.all(pods.map((pod) => node.capturing(pod, 200_000)));
  const seconds = since(begin);
  record.happened(
    `${pods.length} captures compiled a filter of ${filter.length} characters; one of another namespace and one without a filter ` +
      `captured ${beside.toFixed(1)} s after they were asked for`,
  );
  // No start was given up and begun again.
  for (const pod of pods) assertEquals((await node.manifest(pod)).runs.length, 1, pod.name);
  assertEquals(controller.lines.filter((line) => /tcpdump killed|capture failed/.test(line)), []);
  const leftovers = await cleanUp(node, [...pods, ...others], 60_000);
  await controller.stop();
  record.right({ seconds, leftovers });
});

fault("filter-edited-1000-times", async (record) => {
  const node = await rig();
  await node.server.createNamespace("neighbour");
  await using cpu = await Cgroup.create("cpu");
  // Counts its checks.
  const tcpdump = join(node.dir, "tcpdump");
  const calls = join(node.dir, "checks");
  const script = `#!/bin/sh\ncase "$*" in *-d*) echo >>${calls};; esac\nexec tcpdump "$@"\n`;
  await Deno.writeTextFile(tcpdump, script, { mode: 0o755 });
  await using controller = await startController(node, { TCPDUMP: tcpdump });
  const edited = await node.startPod("edited", asks("udp"));
  const other = await node.startPod("other", { namespace: "neighbour" });
  await node.capturing(edited);
  await cpu.limitCpu(CORES);
  await cpu.write("cgroup.procs", String(controller.pid));
  const begin = performance.now();
  const filter = (i: number) => `${ports(100)}||${1000 + i}`;
  const count = 1000;
  let asked: Promise<number> | undefined;
  for (let i = 1; i <= count; i++) {
    await node.annotate(edited, { filter: filter(i) });
    // In the middle of it, somebody else.
    if (i === count / 2) {
      await node.annotate(other, { "": "2", filter: "tcp port 80" });
      const start = performance.now();
      asked = node.capturing(other, 60_000).then(() => since(start));
    }
  }
  const edits = since(begin);
  const seconds = await asked!;
  await waitFor("the last edit to be carried out", async () => {
    return (await node.processOf(edited))?.argv.at(-1) === filter(count);
  }, { timeoutMs: 60_000, everyMs: 50 });
  await node.capturing(edited);
  const checks = (await Deno.readTextFile(calls)).length;
  record.happened(`${count} edits within ${edits.toFixed(1)} s; tcpdump -d ran ${checks} times`);
  assert(checks < 100 + 5 * edits, `${checks} checks`);
  const leftovers = await cleanUp(node, [edited, other], 30_000);
  await controller.stop();
  record.right({ seconds, leftovers });
});
