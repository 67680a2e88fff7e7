/** The keys, certificates and kubeconfigs of the cluster's components. */
import { join } from "node:path";
import { Authority, type Leaf, writeKubeconfig } from "../support/certificates.ts";
import { type ClusterConfig, SERVICE_API } from "./config.ts";

export interface Identity extends Leaf {
  readonly kubeconfig: string;
}

/** Returns where the files of a component are, below `<dir>/pki`. */
export function identity(cluster: ClusterConfig, name: string): Identity {
  const at = (ending: string) => join(cluster.pki, `${name}.${ending}`);
  return { cert: at("crt"), key: at("key"), kubeconfig: at("kubeconfig") };
}

/** Returns the certificate of the cluster's authority. */
export function authorityOf(cluster: ClusterConfig): string {
  return join(cluster.pki, "ca.crt");
}

/** Makes all keys, certificates and kubeconfigs of the cluster. */
export async function makePki(cluster: ClusterConfig): Promise<void> {
  const { pki, hostIp } = cluster;
  await Deno.mkdir(pki, { recursive: true, mode: 0o700 });
  const authority = await Authority.create(pki);
  const make = async (name: string, subject: string, altNames?: readonly string[]) => {
    const user = await authority.issue(name, subject, altNames);
    const options = { cluster: "local", server: cluster.server, authority: authority.cert, name, user, whole: true };
    await writeKubeconfig(identity(cluster, name).kubeconfig, options);
  };
  const names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map((n) => `DNS:${n}`);
  await Promise.all([
    make("apiserver", "/CN=kube-apiserver", [...names, ...["127.0.0.1", SERVICE_API, hostIp].map((ip) => `IP:${ip}`)]),
    make("admin", "/O=system:masters/CN=admin"),
    make("controller-manager", "/CN=system:kube-controller-manager"),
    make("scheduler", "/CN=system:kube-scheduler"),
    make("proxy", "/CN=system:kube-proxy"),
    ...cluster.nodes.map(({ name, ip }) =>
      make(name, `/O=system:nodes/CN=system:node:${name}`, [`DNS:${name}`, `IP:${ip}`])
    ),
  ]);
}
