/** Runs the plugin as its users do, as a process of its own, with the real kubectl or one that follows a script. */
import { join } from "@std/path";
import type { ApiServer } from "../../rig/apiserver.ts";
import { denoArgs } from "../../rig/cli.ts";
import { must, waitFor } from "../../support/wait.ts";
import type { Call, Rule } from "./fake_kubectl.ts";

/** A plugin that has not ended by then hangs: milliseconds. */
const DEADLINE_MS = 60_000;

export interface Result {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
  /** stdout as text. */
  readonly text: string;
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** Sent once `until` says so. */
  readonly interrupt?: { readonly signal: Deno.Signal; readonly until: () => Promise<boolean> };
}

/** The command line of the plugin. */
export function pluginCommand(args: readonly string[]): string[] {
  return [Deno.execPath(), ...denoArgs("src/plugin/main.ts"), ...args];
}

/** Runs the plugin to its end. */
export async function plugin(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const [program, ...rest] = pluginCommand(args);
  const child = new Deno.Command(program!, {
    args: rest,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: options.env ?? {},
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  }).spawn();
  // Not by the option `signal`: that sends SIGTERM, on which the plugin ends in good order.
  const deadline = setTimeout(() => child.kill("SIGKILL"), DEADLINE_MS);
  const output = child.output().finally(() => clearTimeout(deadline));
  if (options.interrupt) {
    await eventually(options.interrupt.until);
    child.kill(options.interrupt.signal);
  }
  const { code, stdout, stderr } = await output;
  return { code, stdout, stderr: new TextDecoder().decode(stderr), text: new TextDecoder().decode(stdout) };
}

/** Looks until something is so; the test fails if it never is, and at once if looking fails. */
export async function eventually(so: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  await waitFor(String(so), () => must(so), { timeoutMs, everyMs: 20 });
}

/** A folder with a scripted kubectl in it, to be put first in PATH. */
export class Sandbox implements AsyncDisposable {
  private constructor(readonly dir: string) {}

  static async create(rules: readonly Rule[] = []): Promise<Sandbox> {
    const sandbox = new Sandbox(await Deno.makeTempDir({ prefix: "packet-capture-plugin-" }));
    await Deno.mkdir(join(sandbox.dir, "bin"));
    const script = `#!/bin/sh\nexec '${Deno.execPath()}' run --no-config --no-lock --quiet --allow-all '${
      join(import.meta.dirname!, "fake_kubectl.ts")
    }' "$@"\n`;
    await Deno.writeTextFile(join(sandbox.dir, "bin/kubectl"), script, { mode: 0o755 });
    await Deno.mkdir(join(sandbox.dir, "work"));
    await sandbox.follow(rules);
    return sandbox;
  }

  /** A path in it. */
  path(name: string): string {
    return join(this.dir, name);
  }

  async follow(rules: readonly Rule[]): Promise<void> {
    await Deno.writeTextFile(this.path("rules.json"), JSON.stringify(rules));
  }

  /** Runs the plugin with the scripted kubectl, in the folder `work`. */
  run(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    const env = {
      FAKE_KUBECTL: this.dir,
      PATH: `${this.path("bin")}:${Deno.env.get("PATH")}`,
      TMPDIR: this.dir,
      ...options.env,
    };
    return plugin(args, { cwd: this.path("work"), ...options, env });
  }

  /** What kubectl was called for, first call first. */
  async calls(): Promise<Call[]> {
    const text = await Deno.readTextFile(this.path("calls.jsonl")).catch(() => "");
    return text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  /** Everything that lies in the folder `work`, hidden or not. */
  async files(): Promise<string[]> {
    return (await Array.fromAsync(Deno.readDir(this.path("work")))).map(({ name }) => name).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** Words of the calls by which the plugin finds releases, and the pods of one. */
export const RELEASES = ["get", "clusterroles"];
export const CONTROLLERS = ["get", "pods", "app.kubernetes.io/name=packet-capture"];
/** Words of the call for pods that are named. */
export const PODS = ["get", "pods", "--ignore-not-found"];

/** What a cluster answers that has a controller on each of these nodes, and these pods. */
export function clusterRules(
  nodes: readonly string[],
  pods: readonly { name: string; node: string; namespace?: string }[],
): Rule[] {
  return [
    { when: RELEASES, stdout: list([clusterRole()]) },
    { when: CONTROLLERS, stdout: list(nodes.map((node) => controllerPod(node))) },
    { when: ["get", " pods"], stdout: list(pods.map((pod) => capturedPod(pod))) },
  ];
}

/** What the API server answers to a patch: the pod as it is then, of which only the annotations count. */
export const PATCHED: Rule = { when: ["patch"], stdout: JSON.stringify({ kind: "Pod", metadata: {} }) };

export function list(items: readonly unknown[]): string {
  return JSON.stringify({ kind: "List", apiVersion: "v1", items });
}

/** The object by which the chart's release is known. */
export function clusterRole(
  { release = "packet-capture", key = "tcpdump.antrea.io", namespace = "packet-capture" } = {},
) {
  return {
    kind: "ClusterRole",
    metadata: {
      name: `${release}-read`,
      uid: `role-${release}`,
      labels: { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": release },
      annotations: { "packet-capture.antrea.io/namespace": namespace, "packet-capture.antrea.io/annotation-key": key },
    },
  };
}

export interface ControllerOptions {
  readonly release?: string;
  readonly ready?: boolean;
  readonly waiting?: string;
  readonly namespace?: string;
  /** @default those of the chart */
  readonly containers?: readonly string[];
  readonly key?: string;
}

export function controllerPod(node: string, options: ControllerOptions = {}) {
  const { release = "packet-capture", ready = true, waiting, namespace = "packet-capture" } = options;
  const { containers = ["packet-capture", "reader"], key = "tcpdump.antrea.io" } = options;
  return {
    kind: "Pod",
    metadata: {
      name: `${release}-${node}`,
      namespace,
      uid: `pod-${release}-${node}`,
      labels: { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": release },
      ownerReferences: [
        { apiVersion: "apps/v1", kind: "DaemonSet", name: release, uid: `ds-${release}`, controller: true },
      ],
    },
    spec: {
      nodeName: node,
      containers: containers.map((name) =>
        name === "packet-capture"
          ? {
            name,
            image: "x",
            env: [{ name: "ANNOTATION_KEY", value: key }, {
              name: "NODE_NAME",
              valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } },
            }],
          }
          : { name, image: "x" }
      ),
    },
    status: {
      phase: ready ? "Running" : "Pending",
      conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
      containerStatuses: waiting
        ? [{
          name: "packet-capture",
          image: "x",
          imageID: "",
          ready: false,
          restartCount: 0,
          state: { waiting: { reason: waiting } },
        }]
        : [],
    },
  };
}

/** Makes the chart's ClusterRole and these pods of its DaemonSet on a real API server, which has their namespaces. */
export async function install(server: ApiServer, pods: readonly ReturnType<typeof controllerPod>[]): Promise<void> {
  const { uid: _uid, ...metadata } = clusterRole().metadata;
  await server.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", { metadata, rules: [] });
  for (const pod of pods) await makePod(server, pod);
}

/** Makes a pod with its status, which the API server takes only afterwards. */
export async function makePod(
  server: ApiServer,
  { metadata: { uid: _uid, ...metadata }, spec, status }: ReturnType<typeof controllerPod>,
): Promise<void> {
  const base = `/api/v1/namespaces/${metadata.namespace}/pods`;
  await server.call("POST", base, { metadata, spec });
  await server.call("PATCH", `${base}/${metadata.name}/status`, { status });
}

export function capturedPod({ name, node, namespace = "default" }: { name: string; node: string; namespace?: string }) {
  return {
    kind: "Pod",
    metadata: { name, namespace, uid: `uid-${namespace}-${name}`, annotations: { "tcpdump.antrea.io": "5" } },
    spec: { nodeName: node },
    status: { phase: "Running" },
  };
}
