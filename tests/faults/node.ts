/** What tests of faults ask of a node, beyond the rig. */
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../support/wait.ts";
import { attempt, run } from "../support/run.ts";
import type { Controller, NodeRig, TestPod } from "../rig/node.ts";
import { numbersOf, Traffic } from "./traffic.ts";

/** Starts a controller on a node without pods and files: what a test that failed has left is removed first. */
export async function startController(
  node: NodeRig,
  ...options: Parameters<NodeRig["startController"]>
): Promise<Controller> {
  await clear(node);
  return await node.startController(...options);
}

/** Removes what a test that failed has left of pods, processes and files. */
export async function clear(node: NodeRig): Promise<void> {
  const { items } = await node.server.call("GET", "/api/v1/pods") as {
    items: { metadata: { name: string; namespace: string } }[];
  };
  await Promise.all(
    items.map(({ metadata: { name, namespace } }) => node.server.deletePod(name, 0, namespace).catch(ignoreGone)),
  );
  for (const { pid } of await node.processes()) Deno.kill(pid, "SIGKILL");
  await run(["rm", "-rf", node.captureDir]);
}

function ignoreGone(error: Error): void {
  if (!/: 404 /.test(error.message)) throw error;
}

/** The controller's own files in captureDir's root. */
const OWN = [".packet-capture", ".holder", ".not-capturing.json", ".control"];

/** Processes that write below captureDir, and all that is in it but the controller's own files in its root. */
export async function leftovers(node: NodeRig): Promise<string[]> {
  const found = (await node.processes()).map(({ pid, folder }) => `process ${pid} of ${folder}`);
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(node.captureDir)) {
    if (name !== "lost+found" && (isDirectory || isSymlink || !OWN.includes(name))) found.push(name);
  }
  return found;
}

/** Deletes the pods that are still there and waits until nothing is left of any capture. Gives the number of leftovers: 0. */
export async function cleanUp(node: NodeRig, pods: readonly TestPod[], timeoutMs = 15_000): Promise<number> {
  await Promise.all(pods.map((pod) => node.deletePod(pod).catch(ignoreGone)));
  return await nothingLeft(node, timeoutMs);
}

/** Waits until nothing is left of any capture. */
export async function nothingLeft(node: NodeRig, timeoutMs = 15_000): Promise<number> {
  let last: string[] = [];
  await waitFor("no leftovers", async () => (last = await leftovers(node)).length === 0, { timeoutMs, everyMs: 20 })
    .catch((error) => {
      throw new Error(`${error.message}: ${last.join(", ")}`);
    });
  return last.length;
}

/** /healthz says 200. Like a kubelet this forgives one time without an answer, for a machine may be busy, but no 503. */
export async function healthy(controller: Controller): Promise<void> {
  const [status, text] = await controller.get("/healthz").catch(() => controller.get("/healthz"));
  assertEquals(status, 200, `/healthz: ${text}`);
}

/** Waits for a tcpdump in the namespace of the pod's present sandbox. */
export async function inItsNetns(node: NodeRig, pod: TestPod, timeoutMs = 10_000): Promise<void> {
  const own = `net:[${(await Deno.stat(await node.netnsPath(pod))).ino}]`;
  await waitFor(`a tcpdump in ${own}`, async () => (await node.processOf(pod))?.netns === own, {
    timeoutMs,
    everyMs: 5,
  });
  await node.capturing(pod);
}

/** Waits until a packet that is sent from now on is in a file of the pod. */
export async function hears(node: NodeRig, pod: TestPod, timeoutMs = 15_000): Promise<void> {
  const token = `h${crypto.randomUUID().slice(0, 8)}`;
  const traffic = await Traffic.start(node, pod, token);
  try {
    await waitFor(`packets of ${pod.name}`, async () => (await numbersOf(node, pod, token)).size > 0, {
      timeoutMs,
      everyMs: 50,
    });
  } finally {
    await traffic.stop();
  }
}

/** Names of the pod's pcap files that tcpdump cannot read to their end. Only for a capture that is not running. */
export async function unreadable(node: NodeRig, pod: TestPod): Promise<string[]> {
  const bad: string[] = [];
  for (const name of await node.files(pod)) {
    const path = join(node.folderOf(pod), name);
    if ((await Deno.stat(path)).size === 0) continue;
    const { code, stderr } = await attempt(["tcpdump", "-n", "-r", path, "-w", "/dev/null"]);
    if (code !== 0) bad.push(`${name}: ${stderr.trim()}`);
  }
  return bad;
}

/** All that is below a directory: names, sizes, contents, times of change. */
export async function contents(path: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(path)) {
    const { mtime, ino, mode } = await Deno.lstat(join(path, name));
    found.push(`${join(path, name)} ${ino} ${mode} ${mtime?.toISOString()}`);
    if (isDirectory) found.push(...await contents(join(path, name)));
    else found.push(await Deno.readTextFile(join(path, name)));
  }
  return found.sort();
}
