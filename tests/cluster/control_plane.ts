/** etcd, API server, controller manager and scheduler, on the host. */
import { join } from "node:path";
import { type ClusterConfig, POD_CIDR, SERVICE_CIDR } from "./config.ts";
import { alive, type Daemon, logTail, startDaemon } from "../support/daemon.ts";
import { identity } from "./pki.ts";
import { Hopeless, waitFor } from "../support/wait.ts";

/** Starts all four and returns once the API server says that it is ready. */
export async function startControlPlane(cluster: ClusterConfig, kube: string): Promise<void> {
  const { dir, pki, hostIp, etcdPort } = cluster;
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const etcd = await startDaemon(dir, "etcd", [
    kube,
    "etcd",
    `--data-dir=${join(dir, "etcd")}`,
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=http://127.0.0.1:${etcdPort + 1}`,
    "--unsafe-no-fsync", // a test cluster is made again, never repaired
  ]);
  const api = identity(cluster, "apiserver"), admin = identity(cluster, "admin");
  const apiserver = await startDaemon(dir, "apiserver", [
    kube,
    "kube-apiserver",
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${hostIp}`,
    `--advertise-address=${hostIp}`,
    "--secure-port=6443",
    `--tls-cert-file=${api.cert}`,
    `--tls-private-key-file=${api.key}`,
    `--client-ca-file=${pki}/ca.crt`,
    `--kubelet-client-certificate=${admin.cert}`,
    `--kubelet-client-key=${admin.key}`,
    `--kubelet-certificate-authority=${pki}/ca.crt`,
    "--kubelet-preferred-address-types=InternalIP",
    `--service-account-key-file=${pki}/sa.key`,
    `--service-account-signing-key-file=${pki}/sa.key`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--allow-privileged=true",
  ]);
  await ready(cluster, [etcd, apiserver]);
  await startDaemon(dir, "controller-manager", [
    kube,
    "kube-controller-manager",
    `--kubeconfig=${identity(cluster, "controller-manager").kubeconfig}`,
    `--bind-address=${hostIp}`, // several clusters on one machine: each at its own address
    `--root-ca-file=${pki}/ca.crt`,
    `--service-account-private-key-file=${pki}/sa.key`,
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

/** One look at the API server's /readyz, with the admin's certificate. */
export async function apiReady(cluster: ClusterConfig): Promise<boolean> {
  const admin = identity(cluster, "admin");
  using client = Deno.createHttpClient({
    caCerts: [await Deno.readTextFile(join(cluster.pki, "ca.crt"))],
    cert: await Deno.readTextFile(admin.cert),
    key: await Deno.readTextFile(admin.key),
  });
  const response = await fetch(`${cluster.server}/readyz`, { client, signal: AbortSignal.timeout(2000) });
  await response.body?.cancel();
  return response.status === 200;
}

async function ready(cluster: ClusterConfig, daemons: readonly Daemon[]): Promise<void> {
  try {
    await waitFor("the API server", () => {
      const dead = daemons.find((d) => !alive(d));
      if (dead) throw new Hopeless(`${dead.name} ended`);
      return apiReady(cluster);
    });
  } catch (error) {
    const tails = await Promise.all(daemons.map((d) => logTail(cluster.dir, d.name)));
    throw new Error(`${(error as Error).message}${tails.join("")}`);
  }
}
