/** Places of one local cluster: its state folder, and the names and addresses it takes on this machine. */
import { join, resolve } from "node:path";

export const NODE_NAMES = ["worker1", "worker2"] as const;

/** The API server's address of the service network. */
export const SERVICE_API = "10.96.0.1";
export const POD_CIDR = "10.244.0.0/16";

/** Eight /23 networks of 10.244.0.0/16 belong to each index, so 32 clusters fit side by side. */
export const MAX_INDEX = 31;

export interface NodeConfig {
  readonly name: string;
  /** Name of its network namespace on the host (`ip netns`). */
  readonly netns: string;
  /** Host's end of its cable to the bridge. */
  readonly veth: string;
  readonly ip: string;
  readonly podCidr: string;
  /** Its folder: containerd's and the kubelet's state, logs of pods. */
  readonly dir: string;
}

export interface ClusterConfig {
  readonly dir: string;
  readonly index: number;
  readonly bridge: string;
  /** The host's address on the bridge, where the API server listens. */
  readonly hostIp: string;
  readonly server: string;
  /** etcd's client port on 127.0.0.1; its peer port is the next one. */
  readonly etcdPort: number;
  readonly kubeconfig: string;
  readonly pki: string;
  readonly log: string;
  readonly nodes: readonly NodeConfig[];
}

/** The cluster of folder `dir` (absolute after this) at `index` 0…31. */
export function clusterConfig(dir: string, index: number): ClusterConfig {
  if (!Number.isInteger(index) || index < 0 || index > MAX_INDEX) {
    throw new RangeError(`CLUSTER_INDEX is ${index}: a whole number 0…${MAX_INDEX} is accepted`);
  }
  const root = resolve(dir);
  const hostIp = `10.99.${index}.1`;
  return {
    dir: root,
    index,
    bridge: bridgeName(index),
    hostIp,
    server: `https://${hostIp}:6443`,
    etcdPort: 23790 + 2 * index,
    kubeconfig: join(root, "kubeconfig"),
    pki: join(root, "pki"),
    log: join(root, "log"),
    nodes: NODE_NAMES.map((name, i) => ({
      name,
      netns: `pc${index}-${name}`,
      veth: `pc${index}-${i + 1}`,
      ip: `10.99.${index}.${i + 2}`,
      podCidr: `10.244.${8 * index + 2 * (i + 1)}.0/23`,
      dir: join(root, name),
    })),
  };
}

export function bridgeName(index: number): string {
  return `pc${index}-br`;
}

/** `CLUSTER_DIR`, by default `.cluster` in the working directory (the repository's root under make). */
export function clusterDir(): string {
  return resolve(Deno.env.get("CLUSTER_DIR") || ".cluster");
}
