/** The cluster's wires: a bridge on the host, a network namespace and a cable for each worker. */
import { attempt, CommandError, run } from "../support/run.ts";
import { bridgeName, type ClusterConfig, clusterConfig, MAX_INDEX, type NodeConfig } from "./config.ts";

const UNNAMED = "pcnew";

/**
 * Takes the first free index (or exactly `wanted`) by making its bridge, which carries the cluster's folder as its alias. The
 * bridge gets its name last: at no moment is there one that does not say whose it is.
 */
export async function takeIndex(dir: string, wanted: number | undefined): Promise<ClusterConfig> {
  const candidates = wanted === undefined ? Array.from({ length: MAX_INDEX + 1 }, (_, i) => i) : [wanted];
  const clusters = candidates.map((index) => clusterConfig(dir, index));
  const unnamed = `${UNNAMED}${crypto.randomUUID().slice(0, 8)}`;
  const made = await attempt(["ip", "link", "add", unnamed, "type", "bridge"]);
  if (made.code !== 0) throw new Error(`Cannot make a network bridge (root on Linux is needed): ${made.stderr.trim()}`);
  await run(["ip", "link", "set", unnamed, "alias", dir]);
  for (const cluster of clusters) {
    const named = await attempt(["ip", "link", "set", unnamed, "name", cluster.bridge]);
    if (named.code === 0) return cluster;
    if (!named.stderr.includes("File exists")) throw new Error(`Cannot name a network bridge: ${named.stderr.trim()}`);
  }
  await run(["ip", "link", "del", unnamed]);
  const owners = (await bridges()).map((b) => `${b.index} by ${b.dir}`).join(", ");
  throw new Error(
    `No index for the cluster is free: ${owners} (choose another CLUSTER_INDEX, or take one of them down)`,
  );
}

/** Every bridge of a local cluster on this machine, with the folder of the cluster that made it; index -1: not named yet. */
export async function bridges(): Promise<{ name: string; index: number; dir: string }[]> {
  const links = JSON.parse((await run(["ip", "-json", "link", "show", "type", "bridge"])).trim() || "[]") as {
    ifname?: string;
    ifalias?: string;
  }[];
  return links.flatMap(({ ifname: name = "", ifalias: dir = "" }) => {
    if (name.startsWith(UNNAMED)) return [{ name, index: -1, dir }];
    const index = Number(/^pc(\d+)-br$/.exec(name)?.[1] ?? -1);
    return index >= 0 && name === bridgeName(index) ? [{ name, index, dir }] : [];
  });
}

/** Addresses on the bridge, and a namespace with routes to the other nodes' pods for each worker. */
export async function wire(cluster: ClusterConfig): Promise<void> {
  await run(["ip", "addr", "add", `${cluster.hostIp}/24`, "dev", cluster.bridge]);
  await run(["ip", "link", "set", cluster.bridge, "up"]);
  await pastDocker("-I", cluster.bridge);
  await Promise.all(cluster.nodes.map((node) => plugIn(cluster, node)));
}

async function plugIn(cluster: ClusterConfig, node: NodeConfig): Promise<void> {
  await run(["ip", "netns", "add", node.netns]);
  await run(["ip", "link", "add", node.veth, "type", "veth", "peer", "name", "eth0", "netns", node.netns]);
  await run(["ip", "link", "set", node.veth, "master", cluster.bridge, "up"]);
  const inside = (...args: string[]) => run(["ip", "-n", node.netns, ...args]);
  await inside("link", "set", "lo", "up");
  await inside("link", "set", "eth0", "up");
  await inside("addr", "add", `${node.ip}/24`, "dev", "eth0");
  await inside("route", "add", "default", "via", cluster.hostIp);
  for (const other of cluster.nodes) {
    if (other !== node) await inside("route", "add", other.podCidr, "via", other.ip);
  }
  await run(["ip", "route", "replace", node.podCidr, "via", node.ip]); // host to pods: the API server's proxy, people's curl
}

/** Removes what `takeIndex` and `wire` made, as far as it is there. The bridge goes last: it is what names the owner. */
export async function unwire(cluster: ClusterConfig): Promise<void> {
  for (const node of cluster.nodes) {
    await attempt(["ip", "link", "del", node.veth]); // and its peer, even if something still holds the namespace
    await attempt(["ip", "netns", "del", node.netns]);
  }
  await pastDocker("-D", cluster.bridge);
  await attempt(["ip", "link", "del", cluster.bridge]);
}

/**
 * Docker lets nothing pass over bridges that are not its own, not even from one port of ours to the other, unless its chain for users'
 * rules says so. Without iptables, or that chain, there is nothing to get past.
 *
 * @param action `-I` puts the rules in, `-D` takes them out.
 */
export async function pastDocker(action: "-I" | "-D", bridge: string): Promise<void> {
  for (const side of ["-i", "-o"]) {
    const rule = ["iptables", "-w", action, "DOCKER-USER", side, bridge, "-j", "ACCEPT"];
    await attempt(rule).catch((error) => {
      if (!(error instanceof CommandError)) throw error;
    });
  }
}
