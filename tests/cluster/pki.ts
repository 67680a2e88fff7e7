/**
 * A certificate authority, a leaf for each component (rustls, Deno's TLS, refuses an authority's certificate as a leaf), and
 * the kubeconfig files that use them.
 */
import { join } from "node:path";
import { type ClusterConfig, SERVICE_API } from "./config.ts";
import { run } from "../support/run.ts";

/** Files of one identity below `<dir>/pki`. */
export function identity(cluster: ClusterConfig, name: string): { cert: string; key: string; kubeconfig: string } {
  const at = (ending: string) => join(cluster.pki, `${name}.${ending}`);
  return { cert: at("crt"), key: at("key"), kubeconfig: at("kubeconfig") };
}

/** Makes all keys, certificates and kubeconfigs of the cluster. */
export async function makePki(cluster: ClusterConfig): Promise<void> {
  const { pki, hostIp } = cluster;
  await Deno.mkdir(pki, { recursive: true, mode: 0o700 });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const authority = [
    "-addext",
    "basicConstraints=critical,CA:TRUE",
    "-addext",
    "keyUsage=critical,keyCertSign,cRLSign",
  ];
  await run(
    [
      "openssl",
      "req",
      "-x509",
      ...key,
      "-keyout",
      "ca.key",
      "-out",
      "ca.crt",
      "-days",
      "3650",
      "-subj",
      "/CN=local-cluster-ca",
    ]
      .concat(authority),
    { cwd: pki },
  );
  await run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key"], { cwd: pki });
  const server = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map((n) => `DNS:${n}`)
    .concat(["127.0.0.1", SERVICE_API, hostIp].map((ip) => `IP:${ip}`)).join();
  await Promise.all([
    leaf(cluster, key, "apiserver", "/CN=kube-apiserver", server),
    leaf(cluster, key, "admin", "/O=system:masters/CN=admin", "DNS:admin"),
    leaf(cluster, key, "controller-manager", "/CN=system:kube-controller-manager", "DNS:controller-manager"),
    leaf(cluster, key, "scheduler", "/CN=system:kube-scheduler", "DNS:scheduler"),
    leaf(cluster, key, "proxy", "/CN=system:kube-proxy", "DNS:proxy"),
    ...cluster.nodes.map((n) =>
      leaf(cluster, key, n.name, `/O=system:nodes/CN=system:node:${n.name}`, `DNS:${n.name},IP:${n.ip}`)
    ),
  ]);
}

async function leaf(cluster: ClusterConfig, key: string[], name: string, subject: string, altNames: string) {
  const cwd = cluster.pki;
  await run(["openssl", "req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject], { cwd });
  await Deno.writeTextFile(
    join(cwd, `${name}.ext`),
    `basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=${altNames}\n`,
  );
  // A serial of its own for each: they are signed side by side.
  const serial = "0x" + crypto.randomUUID().replaceAll("-", "").slice(1);
  const ca = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", serial, "-days", "3650", "-extfile", `${name}.ext`];
  await run(["openssl", "x509", "-req", "-in", `${name}.csr`, "-out", `${name}.crt`, ...ca], { cwd });
  await Deno.writeTextFile(join(cwd, `${name}.kubeconfig`), await kubeconfig(cluster, name), { mode: 0o600 });
}

/** A kubeconfig with everything inside, so that it can be copied anywhere. */
async function kubeconfig(cluster: ClusterConfig, name: string): Promise<string> {
  const inline = async (file: string) => btoa(await Deno.readTextFile(join(cluster.pki, file)));
  return `apiVersion: v1
kind: Config
clusters:
- name: local
  cluster: {server: "${cluster.server}", certificate-authority-data: ${await inline("ca.crt")}}
users:
- name: ${name}
  user: {client-certificate-data: ${await inline(`${name}.crt`)}, client-key-data: ${await inline(`${name}.key`)}}
contexts:
- name: local
  context: {cluster: local, user: ${name}}
current-context: local
`;
}
