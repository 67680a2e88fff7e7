/** etcd, API server, controller manager and scheduler, on the host. */
import { startApiServer, startEtcd } from "../support/api_server.ts";
import { startDaemon } from "../support/daemon.ts";
import { type ClusterConfig, POD_CIDR } from "./config.ts";
import { authorityOf, identity } from "./pki.ts";

/** Starts all four and returns once the API server says that it is ready. */
export async function startControlPlane(cluster: ClusterConfig, kube: string): Promise<void> {
  const { dir, hostIp, etcdPort } = cluster;
  const authority = authorityOf(cluster);
  const serving = identity(cluster, "apiserver"), admin = identity(cluster, "admin");
  await startApiServer(dir, {
    kube,
    etcd: await startEtcd(dir, { kube, port: etcdPort, peerPort: etcdPort + 1 }),
    ip: hostIp,
    port: 6443,
    serving,
    authority,
    args: [
      `--advertise-address=${hostIp}`,
      `--kubelet-client-certificate=${admin.cert}`,
      `--kubelet-client-key=${admin.key}`,
      `--kubelet-certificate-authority=${authority}`,
      "--kubelet-preferred-address-types=InternalIP",
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
    ],
    isReady: () => apiReady(cluster),
  });
  await startDaemon(dir, "controller-manager", [
    kube,
    "kube-controller-manager",
    `--kubeconfig=${identity(cluster, "controller-manager").kubeconfig}`,
    `--bind-address=${hostIp}`, // several clusters on one machine: each at its own address
    `--root-ca-file=${authority}`,
    `--service-account-private-key-file=${serving.key}`,
    "--use-service-account-credentials",
    "--leader-elect=false",
    `--cluster-cidr=${POD_CIDR}`,
  ]);
  await startDaemon(dir, "scheduler", [
    kube,
    "kube-scheduler",
    `--kubeconfig=${identity(cluster, "scheduler").kubeconfig}`,
    `--bind-address=${hostIp}`,
    "--leader-elect=false",
  ]);
}

export const CONTROL_PLANE = ["etcd", "apiserver", "controller-manager", "scheduler"] as const;

/** Asks the API server's /readyz once. */
export async function apiReady(cluster: ClusterConfig): Promise<boolean> {
  using api = await openApi(cluster);
  const response = await api.get("/readyz", 2000);
  await response.body?.cancel();
  return response.status === 200;
}

export interface Api extends Disposable {
  get(path: string, timeoutMs?: number): Promise<Response>;
}

/** Opens the API as administrator. */
export async function openApi(cluster: ClusterConfig): Promise<Api> {
  const { cert, key } = identity(cluster, "admin");
  const [ca, ...leaf] = await Promise.all([authorityOf(cluster), cert, key].map((file) => Deno.readTextFile(file)));
  const client = Deno.createHttpClient({ caCerts: [ca!], cert: leaf[0]!, key: leaf[1]! });
  return {
    get: (path, timeoutMs = 5000) => fetch(cluster.server + path, { client, signal: AbortSignal.timeout(timeoutMs) }),
    [Symbol.dispose]: () => client.close(),
  };
}
