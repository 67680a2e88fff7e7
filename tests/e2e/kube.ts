/** A real cluster, spoken to by kubectl as a user would: every call has a deadline, every failure kubectl's own words. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { clusterDir } from "../cluster/config.ts";
import { providerOf } from "../cluster/provider.ts";
import { attempt, CommandError, run, type RunOptions, type RunResult } from "../support/run.ts";
import { tool } from "../support/tool.ts";
import { waitFor, type WaitOptions } from "../support/wait.ts";

export { Hopeless, waitFor } from "../support/wait.ts";

/** What tests look at of any object; narrower types are given by the caller. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
}

export interface PodObject extends KubeObject {
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly ready: boolean; readonly restartCount: number }[];
  };
}

/** An Event, as the core API has it. */
export interface EventObject extends KubeObject {
  readonly reason: string;
  readonly message: string;
}

export class Kube {
  /** @param dir the cluster's folder (`.cluster`, or CLUSTER_DIR) */
  constructor(readonly dir: string = clusterDir()) {
    if (!existsSync(this.kubeconfig)) throw new Error(`No cluster is up in ${dir}: run make cluster-setup`);
  }

  get kubeconfig(): string {
    return join(this.dir, "kubeconfig");
  }

  /** The environment in which kubectl and helm find this cluster, and nothing of the user's own. */
  get env(): Record<string, string> {
    return { KUBECONFIG: this.kubeconfig };
  }

  /** Runs kubectl and gives its standard output; throws `CommandError` unless it exits with 0. @param options deadline: 30 s by default */
  async kubectl(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return await run([tool("kubectl"), ...args], { ...options, env: this.env });
  }

  /** Runs kubectl and gives whatever came of it. */
  async tryKubectl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return await attempt([tool("kubectl"), ...args], { ...options, env: this.env });
  }

  /** `kubectl get … -o json`, parsed. */
  async get<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.kubectl(["get", ...args, "-o", "json"])) as T;
  }

  async pod(namespace: string, name: string): Promise<PodObject> {
    return await this.get<PodObject>("pod", name, "-n", namespace);
  }

  /** Returns all Events on the pods of that name, by the Events' random names. */
  async events(namespace: string, pod: string): Promise<EventObject[]> {
    const args = ["events", "-n", namespace, "--field-selector", `involvedObject.name=${pod}`];
    return (await this.get<{ items: EventObject[] }>(...args)).items;
  }

  /** Applies objects as they are. */
  async apply(...objects: unknown[]): Promise<void> {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await this.kubectl(["apply", "-f", "-"], { input: JSON.stringify(list) });
  }

  /** Applies objects, and deletes them, waiting until they are gone, when the scope ends: `await using _ = await kube.having(…)`. */
  async having(...objects: KubeObject[]): Promise<AsyncDisposable> {
    await this.remove(...objects); // of a run that was killed half way
    await this.apply(...objects);
    return { [Symbol.asyncDispose]: () => this.remove(...objects) };
  }

  /** Deletes objects as far as they are there, at once, and waits until they are gone. */
  async remove(...objects: KubeObject[]): Promise<void> {
    const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
    const args = ["delete", "-f", "-", "--ignore-not-found", "--wait", "--timeout=90s"];
    const pods = objects.every((o) => o.kind === "Pod");
    await this.kubectl(pods ? [...args, "--grace-period=1"] : args, { input, timeoutMs: 100_000 });
  }

  /** Sets annotations; a value of `null` removes one. */
  async annotate(namespace: string, pod: string, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    const words = Object.entries(annotations).map(([key, value]) => value === null ? `${key}-` : `${key}=${value}`);
    await this.kubectl(["annotate", "--overwrite", "pod", pod, "-n", namespace, ...words]);
  }

  /** Runs a command in a pod's container. */
  async exec(
    namespace: string,
    pod: string,
    argv: readonly string[],
    options: RunOptions & { container?: string } = {},
  ) {
    const container = options.container ? ["-c", options.container] : [];
    const stdin = options.input === undefined ? [] : ["-i"];
    return await this.tryKubectl(["exec", ...stdin, "-n", namespace, pod, ...container, "--", ...argv], options);
  }

  /** Writes what a command in a pod writes on its standard output into a file, byte by byte. */
  async execToFile(
    namespace: string,
    pod: string,
    argv: readonly string[],
    file: string,
    options: { container: string; timeoutMs?: number },
  ): Promise<void> {
    const { container, timeoutMs = 60_000 } = options;
    const args = ["exec", "-n", namespace, pod, "-c", container, "--", ...argv];
    const child = new Deno.Command(tool("kubectl"), {
      args,
      env: this.env,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const deadline = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    try {
      const target = await Deno.open(file, { create: true, truncate: true, write: true });
      const [, stderr, { code }] = await Promise.all([
        child.stdout.pipeTo(target.writable),
        new Response(child.stderr).text(),
        child.status,
      ]);
      if (code !== 0) throw new CommandError(`kubectl ${args.join(" ")} exited with ${code}: ${stderr.trim()}`);
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Waits until a pod is Ready, and gives it. */
  async ready(namespace: string, name: string, options: WaitOptions = {}): Promise<PodObject> {
    return await waitFor(`pod ${namespace}/${name} to be Ready`, async () => {
      const pod = await this.pod(namespace, name);
      return pod.status.conditions?.some((c) => c.type === "Ready" && c.status === "True") ? pod : undefined;
    }, options);
  }

  /** Waits until a new namespace has its service account, without which no pod can be made in it. */
  async serviceAccount(namespace: string): Promise<void> {
    await waitFor(`the service account of namespace ${namespace}`, async () => {
      return (await this.tryKubectl(["get", "serviceaccount", "default", "-n", namespace])).code === 0;
    });
  }

  /** Names of the nodes that run pods. */
  async workers(): Promise<string[]> {
    const { items } = await this.get<{ items: (KubeObject & { spec: { taints?: { effect: string }[] } })[] }>("nodes");
    return items.filter((n) => !n.spec.taints?.some((t) => t.effect === "NoSchedule")).map((n) => n.metadata.name)
      .sort();
  }

  /** Runs a command on a node, in its namespaces, as root. */
  async nodeExec(node: string, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const provider = await providerOf(this.dir);
    return await attempt([...await provider.enter(this.dir, node), ...argv], options);
  }

  async loadImage(tar: string): Promise<void> {
    await (await providerOf(this.dir)).loadImage(this.dir, tar);
  }
}
