/**
 * A real etcd and kube-apiserver for one test file: no controllers, no scheduler, no kubelets, so that nothing happens but what
 * the test does. A fake would have its author's bugs: it would not know that a quiet server leaves out bookmarks, answers 403
 * for a moment after a restart, or refuses `sendInitialEvents` with 422. Start one per file, because it takes some 3 s:
 *
 *     await using server = await ApiServer.start();
 *
 * The kernel ends its processes when a run is killed; the next start deletes the folder.
 */
import { join } from "node:path";
import { ApiClient } from "../../src/pods/api.ts";
import { kubeBinary } from "../support/binaries.ts";
import { type Etcd, startApiServer, startEtcd } from "../support/api_server.ts";
import { Authority, type Leaf, type User, writeKubeconfig } from "../support/certificates.ts";
import { alive, type Daemon, daemonsOf, endAll } from "../support/daemon.ts";
import { waitFor } from "../support/wait.ts";

const PREFIX = "packet-capture-api-";

export interface PodObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

export interface ApiServerOptions {
  /** More arguments for kube-apiserver, such as `--feature-gates=WatchList=false`. */
  readonly args?: readonly string[];
}

export class ApiServer implements AsyncDisposable {
  readonly #kube: string;
  readonly #lock: Deno.FsFile;
  readonly #args: readonly string[];
  #etcd: Etcd | undefined;
  #serving: Leaf | undefined;
  #server: Daemon | undefined;
  #admin: ApiClient | undefined;

  private constructor(
    readonly dir: string,
    /** Signs the server's certificate, and those of users: a leaf `/O=group/CN=user` is that user. */
    readonly authority: Authority,
    readonly port: number,
    kube: string,
    lock: Deno.FsFile,
    options: ApiServerOptions,
  ) {
    this.#kube = kube;
    this.#lock = lock;
    this.#args = options.args ?? [];
  }

  /** Returns when the server says that it is ready. */
  static async start(options: ApiServerOptions = {}): Promise<ApiServer> {
    await removeLeftovers();
    const kube = await kubeBinary();
    const dir = await Deno.makeTempDir({ prefix: PREFIX });
    const lock = await Deno.open(join(dir, "lock"), { create: true, write: true });
    await lock.lock(true);
    const server = new ApiServer(dir, await Authority.create(dir), freePort(), kube, lock, options);
    try {
      await server.#begin();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** A client that may do everything. */
  get admin(): ApiClient {
    return this.#admin!;
  }

  async #begin(): Promise<void> {
    const names = ["DNS:localhost", "DNS:kubernetes.default.svc", "IP:127.0.0.1"];
    const [admin] = await Promise.all([
      this.authority.issue("admin", "/O=system:masters/CN=admin"),
      this.authority.issue("apiserver", "/CN=kube-apiserver", names).then((leaf) => this.#serving = leaf),
      startEtcd(this.dir, { kube: this.#kube, port: freePort(), peerPort: freePort(), endsWithStarter: true })
        .then((etcd) => this.#etcd = etcd),
    ]);
    this.#admin = await ApiClient.load({ kubeconfig: await this.kubeconfig("admin", admin) });
    await this.startServer();
  }

  /** Starts the API server, again if it was stopped: same port, same content. */
  async startServer(): Promise<void> {
    this.#server = await startApiServer(this.dir, {
      kube: this.#kube,
      etcd: this.#etcd!,
      ip: "127.0.0.1",
      port: this.port,
      serving: this.#serving!,
      authority: this.authority.cert,
      args: [
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        // It wants a service account in each namespace, which a controller would make.
        "--disable-admission-plugins=ServiceAccount",
        "--shutdown-delay-duration=0s",
        ...this.#args,
      ],
      isReady: async () => (await this.admin.fetch("/readyz", { timeoutMs: 2000 })).ok,
      endsWithStarter: true,
    });
  }

  /** Ends the API server, in order with SIGTERM; etcd stays. */
  async stopServer(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const server = this.#server!;
    Deno.kill(server.pid, signal);
    // A killed process counts as ended while some of its threads still hold the port, which the next one needs.
    await waitFor("the API server's end", () => !alive(server) && isFree(this.port), { everyMs: 20 });
  }

  /** Calls the API as administrator and gives the JSON it answers; throws with its words unless it answers 2xx. */
  // deno-lint-ignore no-explicit-any -- the shape is the API's
  async call(method: string, path: string, body?: unknown): Promise<any> {
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const response = await this.admin.fetch(path, {
      method,
      headers: { "Content-Type": type },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  async createNamespace(name: string): Promise<void> {
    await this.call("POST", "/api/v1/namespaces", { metadata: { name } });
  }

  /** Begins the end of a namespace, which no controller finishes: it stays Terminating and takes no new objects. */
  async terminateNamespace(name: string): Promise<void> {
    await this.call("DELETE", `/api/v1/namespaces/${name}`);
  }

  /** A pod that is bound to a node; nothing runs it. */
  async createPod(
    pod: { namespace?: string; name: string; node: string; annotations?: Record<string, string> },
  ): Promise<PodObject> {
    const { namespace = "default", name, node, annotations = {} } = pod;
    return await this.call("POST", `/api/v1/namespaces/${namespace}/pods`, {
      metadata: { name, annotations },
      spec: { nodeName: node, containers: [{ name: "main", image: "localhost/busybox:1" }] },
    });
  }

  /** Sets annotations; null removes one. */
  async annotate(name: string, annotations: Record<string, string | null>, namespace = "default"): Promise<PodObject> {
    return await this.call("PATCH", `/api/v1/namespaces/${namespace}/pods/${name}`, { metadata: { annotations } });
  }

  /** @param graceSeconds 0: gone when this returns; more: it has a deletionTimestamp and stays, for no kubelet ends it. */
  async deletePod(name: string, graceSeconds = 0, namespace = "default"): Promise<void> {
    await this.call("DELETE", `/api/v1/namespaces/${namespace}/pods/${name}`, { gracePeriodSeconds: graceSeconds });
  }

  /** Gives a user a cluster role of these rules; they hold when this returns. */
  async grant(user: string, rules: readonly { apiGroups: string[]; resources: string[]; verbs: string[] }[]) {
    const name = `rig-${crypto.randomUUID()}`;
    const base = "/apis/rbac.authorization.k8s.io/v1";
    await this.call("POST", `${base}/clusterroles`, { metadata: { name }, rules });
    await this.call("POST", `${base}/clusterrolebindings`, {
      metadata: { name },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: user }],
    });
    const { apiGroups: [group], resources: [resource], verbs: [verb] } = rules[0]!;
    const spec = { user, resourceAttributes: { group, resource, verb } };
    await waitFor("the role to hold", async () => {
      const { status } = await this.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", { spec });
      return status.allowed as boolean;
    }, { everyMs: 10 });
  }

  /** A service account of the namespace (made if need be) and a token of it, valid for an hour. */
  async serviceAccount(name: string, namespace = "default"): Promise<{ user: string; token: string }> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    await this.call("POST", path, { metadata: { name } }).catch((error: Error) => {
      if (!error.message.includes("AlreadyExists")) throw error;
    });
    const { status } = await this.call("POST", `${path}/${name}/token`, { spec: { expirationSeconds: 3600 } });
    return { user: `system:serviceaccount:${namespace}:${name}`, token: status.token };
  }

  /** Writes a kubeconfig and gives its path. @param server another address, such as a proxy's, of the same authority. */
  async kubeconfig(name: string, user: User, server = this.url): Promise<string> {
    const path = join(this.dir, `${name}.kubeconfig`);
    await writeKubeconfig(path, { cluster: "rig", server, authority: this.authority.cert, name, user });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#admin?.close();
    await endAll(await daemonsOf(this.dir));
    this.#lock.close();
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** Ends and deletes what runs that were killed have left: a folder whose lock nobody holds. */
async function removeLeftovers(): Promise<void> {
  const tmp = await Deno.makeTempDir({ prefix: PREFIX });
  const parent = join(tmp, "..");
  await Deno.remove(tmp);
  for await (const { name } of Deno.readDir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const dir = join(parent, name);
    // One that is being made has no lock file yet, and is left alone.
    const lock = await Deno.open(join(dir, "lock"), { write: true }).catch(() => undefined);
    if (lock === undefined) continue;
    if (await lock.tryLock(true)) {
      await endAll(await daemonsOf(dir));
      await Deno.remove(dir, { recursive: true }).catch(() => {});
    }
    lock.close();
  }
}

/** Ports that have been given out: who asked may not have opened them yet. */
const given = new Set<number>();

/** A port that was free a moment ago, and is none of those that the kernel takes for connections. */
export function freePort(): number {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    if (given.has(port)) continue;
    if (!isFree(port)) continue;
    given.add(port);
    return port;
  }
}

function isFree(port: number): boolean {
  try {
    using _listener = Deno.listen({ hostname: "127.0.0.1", port });
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    return false;
  }
}
