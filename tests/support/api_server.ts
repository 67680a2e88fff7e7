/** etcd and kube-apiserver as daemons of a folder. */
import { join } from "node:path";
import type { Leaf } from "./certificates.ts";
import { type Daemon, type DaemonOptions, startDaemon, until } from "./daemon.ts";

/** Service addresses exist only inside each node's own nftables, so all API servers can use the same. */
export const SERVICE_CIDR = "10.96.0.0/16";

export interface Etcd {
  readonly daemon: Daemon;
  readonly url: string;
}

export interface EtcdOptions extends DaemonOptions {
  /** Path of the all-in-one Kubernetes program. */
  readonly kube: string;
  /** On 127.0.0.1: for clients, and for other members, of which there are none. */
  readonly port: number;
  readonly peerPort: number;
}

/** Starts etcd; the API server waits for it. */
export async function startEtcd(dir: string, options: EtcdOptions): Promise<Etcd> {
  const url = `http://127.0.0.1:${options.port}`, peers = `http://127.0.0.1:${options.peerPort}`;
  const daemon = await startDaemon(dir, "etcd", [
    options.kube,
    "etcd",
    `--data-dir=${join(dir, "etcd")}`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    `--listen-peer-urls=${peers}`,
    `--initial-advertise-peer-urls=${peers}`,
    `--initial-cluster=default=${peers}`,
    "--watch-progress-notify-interval=5s", // as kubeadm sets it: without, a quiet server sends few bookmarks
    "--unsafe-no-fsync", // what it holds is thrown away, never repaired
  ], options);
  return { daemon, url };
}

export interface ApiServerOptions extends DaemonOptions {
  readonly kube: string;
  readonly etcd: Etcd;
  readonly ip: string;
  readonly port: number;
  /** Its certificate; with the key it signs the tokens of service accounts, too. */
  readonly serving: Leaf;
  /** The certificate of the authority that signs users' certificates, a file. */
  readonly authority: string;
  /** More arguments. */
  readonly args: readonly string[];
  /** Asks /readyz. */
  isReady(): Promise<boolean>;
}

/** Starts the API server and waits until it says that it is ready. */
export async function startApiServer(dir: string, options: ApiServerOptions): Promise<Daemon> {
  const { kube, etcd, ip, port, serving, authority, args } = options;
  const daemon = await startDaemon(dir, "apiserver", [
    kube,
    "kube-apiserver",
    `--etcd-servers=${etcd.url}`,
    `--bind-address=${ip}`,
    `--secure-port=${port}`,
    `--tls-cert-file=${serving.cert}`,
    `--tls-private-key-file=${serving.key}`,
    `--client-ca-file=${authority}`,
    `--service-account-key-file=${serving.cert}`,
    `--service-account-signing-key-file=${serving.key}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    "--allow-privileged=true",
    ...args,
  ], options);
  await until("the API server", dir, [etcd.daemon, daemon], () => options.isReady());
  return daemon;
}
