/**
 * The local cluster as a whole: up, down, and a handle for tests. Real Kubernetes on one Linux machine, without Docker: the
 * control plane on the host, each worker in namespaces of its own.
 */
import { join } from "node:path";
import { binaries } from "../support/binaries.ts";
import { cacheDir } from "../support/cache.ts";
import { CNI_PLUGINS } from "../support/containerd.ts";
import { alive, daemonsOf, endAll, logTail, recorded } from "../support/daemon.ts";
import { testImages } from "../support/images.ts";
import { isThere } from "../support/paths.ts";
import { attempt } from "../support/run.ts";
import { say } from "../support/say.ts";
import { Hopeless, waitFor } from "../support/wait.ts";
import { type ClusterConfig, clusterConfig, NODE_NAMES } from "./config.ts";
import { apiReady, CONTROL_PLANE, openApi, startControlPlane } from "./control_plane.ts";
import { bridges, takeIndex, unwire, wire } from "./network.ts";
import { COMPONENTS, daemonName, importImage, startContainerd, startKubelet, startNode, startProxy } from "./node.ts";
import { identity, makePki } from "./pki.ts";

/** Brings the cluster in `dir` up; returns at once when it is up and well. `index`: which addresses to take, any free by default. */
export async function up(dir: string, index?: number): Promise<ClusterConfig> {
  if (/^\/(var|run)(\/|$)/.test(dir)) {
    throw new Error(`Cannot keep a cluster in ${dir}: nodes have a /var and /run of their own`);
  }
  using _lock = await lock(dir);
  const running = await openCluster(dir).catch(() => undefined);
  if (running && (index === undefined || index === running.index) && await ill(running) === undefined) {
    say(`the cluster in ${dir} is up already`);
    return running;
  }
  await checkTools();
  const built = await binaries();
  const images = await testImages();
  await remove(dir);
  await makeFolder(dir);
  await forgetLostClusters();
  const cluster = await takeIndex(dir, index).catch(async (error) => {
    await removeFolder(dir);
    throw error;
  });
  say(`starting Kubernetes in ${dir} (index ${cluster.index})`);
  try {
    await wire(cluster);
    await makePki(cluster);
    await Promise.all([
      startControlPlane(cluster, built.kube),
      ...cluster.nodes.map(async (node) => {
        await startNode(cluster, node);
        await startContainerd(cluster, node, built);
        await Promise.all(images.map((tar) => importImage(cluster, node, built.containerd, tar)));
      }),
    ]);
    await Promise.all(cluster.nodes.flatMap((n) => [startProxy(cluster, n, built), startKubelet(cluster, n, built)]));
    await waitUntilUsable(cluster);
    await weighPods();
  } catch (error) {
    await stop(dir); // the folder stays, for its logs; the next `up` or `down` deletes it
    throw error;
  }
  await Deno.writeTextFile(join(dir, "index"), String(cluster.index));
  await Deno.copyFile(identity(cluster, "admin").kubeconfig, cluster.kubeconfig);
  say(`ready: export KUBECONFIG=${cluster.kubeconfig}`);
  return cluster;
}

/** Takes the cluster in `dir` down, whatever state it is in, and deletes the folder. */
export async function down(dir: string): Promise<void> {
  using _lock = await lock(dir);
  await remove(dir);
}

/** The cluster that is up in `dir`. */
export async function openCluster(dir: string): Promise<ClusterConfig> {
  const index = await Deno.readTextFile(join(dir, "index")).catch(() => "");
  if (index === "") throw new Error(`No cluster is up in ${dir}: run make cluster-setup`);
  return clusterConfig(dir, Number(index));
}

/** Imports an image into every node. */
export async function loadImage(cluster: ClusterConfig, tar: string): Promise<void> {
  const { containerd } = await binaries();
  await Promise.all(cluster.nodes.map((node) => importImage(cluster, node, containerd, tar)));
}

/** What is wrong with a running cluster: one sentence, or undefined. */
async function ill(cluster: ClusterConfig): Promise<string | undefined> {
  const names = [...CONTROL_PLANE, ...cluster.nodes.flatMap((n) => COMPONENTS.map((c) => daemonName(n, c)))];
  for (const name of names) {
    const daemon = await recorded(cluster.dir, name);
    if (!daemon || !alive(daemon)) return `${name} is not running`;
  }
  if (!await apiReady(cluster).catch(() => false)) return "the API server is not ready";
  return await unusable(cluster).catch((error) => (error as Error).message);
}

async function waitUntilUsable(cluster: ClusterConfig): Promise<void> {
  const names = cluster.nodes.flatMap((n) => COMPONENTS.map((c) => daemonName(n, c)));
  let why: string | undefined = "no answer yet";
  try {
    await waitFor("the nodes", async () => {
      for (const name of names) {
        const daemon = await recorded(cluster.dir, name);
        if (!daemon || !alive(daemon)) throw new Hopeless(`${name} ended${await logTail(cluster.dir, name)}`);
      }
      why = await unusable(cluster);
      return why === undefined;
    }, { timeoutMs: 120_000 });
  } catch (error) {
    if (error instanceof Hopeless) throw error;
    const tails = await Promise.all(cluster.nodes.map((n) => logTail(cluster.dir, daemonName(n, "kubelet"))));
    throw new Error(`${(error as Error).message} (${why})${tails.join("")}`);
  }
}

/** Why a pod could not run now: a node that is not Ready or still tainted as such, or no service account yet. */
async function unusable(cluster: ClusterConfig): Promise<string | undefined> {
  using api = await openApi(cluster);
  const nodes = await (await api.get("/api/v1/nodes")).json() as {
    items: {
      metadata: { name: string };
      spec: { taints?: { key: string }[] };
      status: { conditions?: { type: string; status: string; message: string }[] };
    }[];
  };
  for (const { name } of cluster.nodes) {
    const node = nodes.items.find((n) => n.metadata.name === name);
    const ready = node?.status.conditions?.find((c) => c.type === "Ready");
    if (ready?.status !== "True") return `node ${name} is not Ready: ${ready?.message ?? "it has not registered"}`;
    // It is taken off a moment after the node has become Ready.
    const taint = node?.spec.taints?.[0];
    if (taint) return `node ${name} has the taint ${taint.key}`;
  }
  const account = await api.get("/api/v1/namespaces/default/serviceaccounts/default");
  await account.body?.cancel();
  return account.status === 200 ? undefined : "the default service account is not there yet";
}

async function checkTools(): Promise<void> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) throw new Error("The local cluster needs Linux and root");
  const needed = [
    "ip",
    "openssl",
    "runc",
    "nft",
    "conntrack",
    "nsenter",
    "unshare",
    "setpriv",
    "busybox",
    "iperf3",
    "tar",
  ];
  const missing: string[] = [];
  for (const tool of needed) if ((await attempt(["which", tool])).code !== 0) missing.push(tool);
  if (!await isThere(join(CNI_PLUGINS, "bridge"))) {
    missing.push(`the CNI plugins in ${CNI_PLUGINS}`);
  }
  if (missing.length > 0) throw new Error(`Missing: ${missing.join(", ")}. tools/install installs what is needed`);
}

/** Only a folder that `up` made is ever deleted: it has an `index` file, empty until the cluster is up. */
async function makeFolder(dir: string): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  for await (const entry of Deno.readDir(dir)) {
    throw new Error(`Cannot make a cluster in ${dir}: it is not empty (${entry.name}); choose another CLUSTER_DIR`);
  }
  await Deno.writeTextFile(join(dir, "index"), "");
}

async function remove(dir: string): Promise<void> {
  const found = await stop(dir); // something of ours ran there: then its files are ours, even if the index file is lost
  if (found || await isThere(join(dir, "index"))) await removeFolder(dir);
}

/** The index file goes last, so that a removal that was cut short can be taken up again. */
async function removeFolder(dir: string): Promise<void> {
  if (!await isThere(dir)) return;
  await removeCgroups(dir);
  for await (const entry of Deno.readDir(dir)) {
    if (entry.name !== "index") await Deno.remove(join(dir, entry.name), { recursive: true });
  }
  await Deno.remove(dir, { recursive: true });
}

/** Ends the processes and removes the network of the cluster in `dir`; tells whether there was anything. */
async function stop(dir: string): Promise<boolean> {
  const daemons = await daemonsOf(dir);
  await endAll(daemons);
  const own = (await bridges()).filter((bridge) => bridge.dir === dir);
  for (const bridge of own) {
    if (bridge.index < 0) await attempt(["ip", "link", "del", bridge.name]);
    else await unwire(clusterConfig(dir, bridge.index));
  }
  return daemons.length + own.length > 0;
}

/** Ends clusters whose folder somebody deleted. */
async function forgetLostClusters(): Promise<void> {
  for (const bridge of await bridges()) {
    if (bridge.dir !== "" && !await isThere(join(bridge.dir, "index"))) await remove(bridge.dir);
  }
}

/**
 * A kubelet with a cgroup hierarchy gives its pods a weight of 1024 per CPU (kubepods). These have none, and all their pods share
 * containerd's own group, which would weigh as much as a single thread of the machine: pods would starve next to the daemons.
 */
async function weighPods(): Promise<void> {
  const shares = 1024 * navigator.hardwareConcurrency * NODE_NAMES.length;
  // Version 2 counts 1…10000 where version 1 counts 2…262144 (runc's and the kubelet's conversion).
  const weight = 1 + Math.floor((shares - 2) * 9999 / 262142);
  const group = "/sys/fs/cgroup/cpu/k8s.io";
  await Deno.mkdir(group, { recursive: true }).catch(() => {}); // without version 1 there is no such place
  await Deno.writeTextFile(join(group, "cpu.shares"), String(shares)).catch(() => {});
  await Deno.writeTextFile("/sys/fs/cgroup/k8s.io/cpu.weight", String(weight)).catch(() => {});
}

/** Killed containers leave empty cgroups behind, by their ids, which are still in containerd's folder. */
async function removeCgroups(dir: string): Promise<void> {
  const root = "/sys/fs/cgroup"; // version 1 has a folder for each hierarchy, version 2 is one
  const hierarchies = ["", ...Array.from(Deno.readDirSync(root)).filter((e) => e.isDirectory).map((e) => e.name)];
  for (const node of NODE_NAMES) {
    const tasks = join(dir, node, "containerd", "io.containerd.runtime.v2.task", "k8s.io");
    if (!await isThere(tasks)) continue;
    for await (const { name } of Deno.readDir(tasks)) {
      for (const hierarchy of hierarchies) await Deno.remove(join(root, hierarchy, "k8s.io", name)).catch(() => {});
    }
  }
}

async function lock(dir: string): Promise<Disposable> {
  await Deno.mkdir(cacheDir(), { recursive: true });
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(dir));
  const name = Array.from(new Uint8Array(digest).slice(0, 6), (b) => b.toString(16).padStart(2, "0")).join("");
  const file = await Deno.open(join(cacheDir(), `cluster-${name}.lock`), { create: true, write: true });
  await file.lock(true);
  return file;
}
