/** A worker: its namespaces, and in them its own containerd, kube-proxy and kubelet. */
import { join } from "node:path";
import type { Binaries } from "../support/binaries.ts";
import { configureContainerd, importing } from "../support/containerd.ts";
import { alive, childOf, type Daemon, endingWithStarter, recorded, startDaemon, until } from "../support/daemon.ts";
import { attempt, run, type RunOptions, type RunResult } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { type ClusterConfig, type NodeConfig, POD_CIDR } from "./config.ts";
import { authorityOf, identity } from "./pki.ts";

export type Component = "node" | "containerd" | "proxy" | "kubelet";
export const COMPONENTS: readonly Component[] = ["node", "containerd", "proxy", "kubelet"];

/** The name of a node's process in records and logs. */
export function daemonName(node: NodeConfig, component: Component): string {
  return `${node.name}-${component}`;
}

/** Makes the namespaces of the node, with a process that holds them. */
export async function startNode(cluster: ClusterConfig, node: NodeConfig): Promise<void> {
  await Deno.mkdir(join(node.dir, "kubelet", "manifests"), { recursive: true });
  const holder = await startDaemon(cluster.dir, daemonName(node, "node"), [
    "nsenter",
    `--net=/run/netns/${node.netns}`,
    "unshare",
    ...["--pid", "--fork", "--kill-child", "--mount", "--uts"], // killing this one process ends all that is in the node
    ...["sh", join(import.meta.dirname!, "node.sh"), node.dir, node.name],
  ]);
  await untilUp(cluster, holder, () => Deno.stat(join(node.dir, "ready")).then(() => true));
}

/** Starts containerd and waits until it answers. */
export async function startContainerd(cluster: ClusterConfig, node: NodeConfig, binaries: Binaries): Promise<void> {
  const folder = binaries.containerd;
  const cni = join(node.dir, "cni");
  await Deno.mkdir(cni, { recursive: true });
  const config = await configureContainerd({
    root: join(node.dir, "containerd"),
    state: "/run/containerd",
    dir: node.dir,
    cni,
    network: {
      subnet: node.podCidr,
      dataDir: join(node.dir, "ipam"),
      ipMasq: true,
      plugins: [{ type: "portmap", capabilities: { portMappings: true } }],
    },
  });
  const env = { PATH: `${folder}:${binaries.runc}:${Deno.env.get("PATH")}` }; // it looks for its shim and for runc there
  const daemon = await startInside(cluster, node, "containerd", [join(folder, "containerd"), "--config", config], env);
  await untilUp(
    cluster,
    daemon,
    async () => (await nodeExec(cluster, node.name, [join(folder, "ctr"), "version"], { timeoutMs: 5000 })).code === 0,
  );
}

/** Starts kube-proxy and the kubelet; they find the API server by themselves, later if need be. */
export async function startKubelet(cluster: ClusterConfig, node: NodeConfig, binaries: Binaries): Promise<void> {
  const config = join(node.dir, "kubelet.json");
  await Deno.writeTextFile(config, JSON.stringify(kubeletConfig(cluster, node), null, 2));
  await startInside(cluster, node, "kubelet", [
    binaries.kube,
    "kubelet",
    `--config=${config}`,
    `--kubeconfig=${identity(cluster, node.name).kubeconfig}`,
    `--hostname-override=${node.name}`,
    `--node-ip=${node.ip}`,
  ]);
}

export async function startProxy(cluster: ClusterConfig, node: NodeConfig, binaries: Binaries): Promise<void> {
  await startInside(cluster, node, "proxy", [
    binaries.kube,
    "kube-proxy",
    "--proxy-mode=nftables",
    `--kubeconfig=${identity(cluster, "proxy").kubeconfig}`,
    `--hostname-override=${node.name}`,
    `--cluster-cidr=${POD_CIDR}`,
    "--conntrack-max-per-core=0", // leave the machine's limit alone
  ]);
}

/** Kills one process of a node, as a crash would, and waits until it has gone; its containers live on. */
export async function killComponent(cluster: ClusterConfig, node: NodeConfig, component: Component): Promise<void> {
  const daemon = await recorded(cluster.dir, daemonName(node, component));
  if (!daemon || !alive(daemon)) return;
  Deno.kill(await childOf(daemon.pid), "SIGKILL"); // the recorded one is nsenter, which follows
  await waitFor(`the end of ${daemon.name}`, () => !alive(daemon), { timeoutMs: 10_000, everyMs: 20 });
}

/** Runs `argv` in the node's namespaces, as `docker exec` would in a kind node. The command dies with its caller. */
export async function nodeExec(
  cluster: ClusterConfig,
  node: string,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return await attempt([...await enter(cluster, node), ...endingWithStarter(argv)], options);
}

/** Imports a docker-archive tar into a node's containerd, where the kubelet sees it. */
export async function importImage(
  cluster: ClusterConfig,
  node: NodeConfig,
  folder: string,
  tar: string,
): Promise<void> {
  await run([...await enter(cluster, node.name), ...importing(tar, folder)], { timeoutMs: 300_000 });
}

/** The words before a command that make it run in the node. */
export async function enter(cluster: ClusterConfig, node: string): Promise<string[]> {
  const config = cluster.nodes.find((n) => n.name === node);
  if (!config) throw new Error(`No node ${node}: there are ${cluster.nodes.map((n) => n.name).join(" and ")}`);
  const holder = await recorded(cluster.dir, daemonName(config, "node"));
  if (!holder || !alive(holder)) throw new Error(`Node ${node} of the cluster in ${cluster.dir} is not up`);
  return ["nsenter", `--target=${await childOf(holder.pid)}`, "--pid", "--mount", "--net", "--uts", "--"];
}

async function startInside(
  cluster: ClusterConfig,
  node: NodeConfig,
  component: Component,
  argv: string[],
  env: Record<string, string> = {},
): Promise<Daemon> {
  return await startDaemon(
    cluster.dir,
    daemonName(node, component),
    [...await enter(cluster, node.name), ...argv],
    { env },
  );
}

/** Waits until one of a node's processes does what it is for. */
async function untilUp(cluster: ClusterConfig, daemon: Daemon, look: () => Promise<boolean>): Promise<void> {
  await until(daemon.name, cluster.dir, [daemon], look, { timeoutMs: 30_000, everyMs: 50 });
}

function kubeletConfig(cluster: ClusterConfig, node: NodeConfig): unknown {
  const serving = identity(cluster, node.name);
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    featureGates: { KubeletInUserNamespace: true }, // tolerates a missing CAP_SYS_RESOURCE and sysctls it may not set
    failCgroupV1: false,
    failSwapOn: false,
    cgroupDriver: "cgroupfs",
    cgroupsPerQOS: false, // two kubelets, one cgroup tree
    enforceNodeAllocatable: [],
    localStorageCapacityIsolation: false,
    containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: authorityOf(cluster) },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: serving.cert,
    tlsPrivateKeyFile: serving.key,
    staticPodPath: "/var/lib/kubelet/manifests",
    volumePluginDir: "/var/lib/kubelet/volume-plugins",
    fileCheckFrequency: "2s",
    resolvConf: "", // there is no DNS in this cluster
    clusterDNS: ["10.96.0.10"],
    maxPods: 250,
    serializeImagePulls: false,
    evictionHard: { "memory.available": "50Mi" }, // the machine's disk is its owner's business
    imageGCHighThresholdPercent: 100,
    kubeAPIQPS: 100,
    kubeAPIBurst: 200,
    eventRecordQPS: 0, // no limit
  };
}
