/** The chart of this repository, installed in a cluster: installed, looked into and removed with helm and kubectl alone. */
import { join } from "node:path";
import { run, type RunOptions, type RunResult } from "../support/run.ts";
import { tool } from "../support/tool.ts";
import { type Kube, type PodObject, waitFor } from "./kube.ts";
import project from "../../deno.json" with { type: "json" };
import { ROOT } from "../support/paths.ts";

/** What `make image` names the image. */
export const IMAGE = `localhost/packet-capture:${project.version}`;
export const IMAGE_TAR = join(ROOT, "dist/image.tar");
/** The bundle, where `make image` has made it, and where it is in the image. */
export const BUNDLE = join(ROOT, "dist/packet-capture.cjs");
export const BUNDLE_IN_IMAGE = "/usr/local/lib/packet-capture/packet-capture.cjs";

/** Names of the containers of the chart's pods. */
export const CONTROLLER = "packet-capture";
export const READER = "reader";

export interface ReleaseOptions {
  /** @default "packet-capture" */
  name?: string;
  /** @default "packet-capture" */
  namespace?: string;
  /** Chart values, on top of the image's. */
  values?: Readonly<Record<string, unknown>>;
  /** More words for helm, such as `--set a=b`. */
  args?: readonly string[];
}

export class Release implements AsyncDisposable {
  readonly name: string;
  readonly namespace: string;

  private constructor(readonly kube: Kube, readonly options: ReleaseOptions) {
    this.name = options.name ?? "packet-capture";
    this.namespace = options.namespace ?? "packet-capture";
  }

  /** Where captures are on a node when storage is hostPath: the chart's default. */
  get hostPath(): string {
    return `/var/lib/packet-capture/${this.namespace}-${this.name}`;
  }

  /** Installs the chart, or upgrades the release if it is there, and waits until every controller is Ready. */
  static async install(kube: Kube, options: ReleaseOptions = {}): Promise<Release> {
    const release = new Release(kube, options);
    await release.upgrade(options.values ?? {}, options.args);
    return release;
  }

  /** A release that is installed already. */
  static of(kube: Kube, options: ReleaseOptions = {}): Release {
    return new Release(kube, options);
  }

  /** `helm upgrade --install` with these values, then waits until every controller is Ready. */
  async upgrade(values: Readonly<Record<string, unknown>>, args: readonly string[] = []): Promise<void> {
    const [repository, tag] = IMAGE.split(":");
    const bundle = (await run(["sha256sum", BUNDLE])).slice(0, 16);
    const image = { repository, tag, pullPolicy: "Never" };
    // The same tag with another content is another pod template: the controllers are replaced.
    const all = { image, podAnnotations: { "packet-capture.test/bundle": bundle }, ...values };
    await this.helm([
      "upgrade",
      "--install",
      this.name,
      join(ROOT, "charts"),
      "--create-namespace",
      "--values",
      "-",
      ...args,
    ], {
      input: JSON.stringify(all),
      timeoutMs: 60_000,
    });
    await this.ready();
  }

  async uninstall(): Promise<void> {
    await this.helm(["uninstall", this.name, "--ignore-not-found", "--wait", "--timeout", "90s"], {
      timeoutMs: 100_000,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.uninstall();
  }

  async helm(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return await run([tool("helm"), ...args, "--namespace", this.namespace], { ...options, env: this.kube.env });
  }

  /** Waits until the DaemonSet's pods are Ready everywhere; if they do not get so, the error says why. */
  async ready(timeoutSeconds = 120): Promise<void> {
    const args = ["rollout", "status", `daemonset/${this.name}`, "-n", this.namespace, `--timeout=${timeoutSeconds}s`];
    const { code, stderr } = await this.kube.tryKubectl(args, { timeoutMs: (timeoutSeconds + 10) * 1000 });
    if (code !== 0) {
      throw new Error(`The controllers are not Ready: ${stderr.trim()}\n${await this.diagnosis()}`.trim());
    }
  }

  /** What a person would look at when a controller is not Ready: pods, their events, last log lines. */
  async diagnosis(): Promise<string> {
    const selector = ["-n", this.namespace, "-l", `app.kubernetes.io/instance=${this.name}`];
    const parts = await Promise.all([
      this.kube.tryKubectl(["get", "pods", ...selector, "-o", "wide"]),
      this.kube.tryKubectl(["get", "events", "-n", this.namespace, "--field-selector", "type!=Normal"]),
      this.kube.tryKubectl(["logs", ...selector, "--tail=15", "--prefix", "--all-containers"]),
      this.kube.tryKubectl(["logs", ...selector, "--tail=15", "--prefix", "--previous"]),
    ]);
    return parts.map((p) => p.code === 0 ? p.stdout.trim() : "").filter(Boolean).join("\n");
  }

  /** The controller's pod on a node, once it is Ready and not on its way out. */
  async pod(node: string): Promise<PodObject> {
    return await waitFor(`a Ready controller on ${node}`, async () => {
      const { items } = await this.kube.get<{ items: PodObject[] }>(
        ...[
          "pods",
          "-n",
          this.namespace,
          "-l",
          `app.kubernetes.io/name=packet-capture,app.kubernetes.io/instance=${this.name}`,
        ],
      );
      return items.find((p) =>
        p.spec.nodeName === node && !p.metadata.deletionTimestamp &&
        p.status.conditions?.some((c) => c.type === "Ready" && c.status === "True")
      );
    });
  }

  /** Runs a command in the controller's container on a node. */
  async exec(node: string, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return await this.#exec(CONTROLLER, node, argv, options);
  }

  /** Runs a command on a node where captures are read: in the container `reader`. */
  async read(node: string, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return await this.#exec(READER, node, argv, options);
  }

  async #exec(container: string, node: string, argv: readonly string[], options: RunOptions): Promise<RunResult> {
    const { name } = (await this.pod(node)).metadata;
    return await this.kube.exec(this.namespace, name, argv, { ...options, container });
  }

  /** The controller's log on a node. */
  async logs(node: string, ...args: string[]): Promise<string> {
    const { name } = (await this.pod(node)).metadata;
    return await this.kube.kubectl(["logs", "-n", this.namespace, name, "-c", CONTROLLER, ...args]);
  }

  /** A setting as the DaemonSet has it in its environment, such as CAPTURE_DIR. */
  async setting(env: string): Promise<string> {
    const { spec } = await this.kube.get<
      { spec: { template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } } }
    >("daemonset", this.name, "-n", this.namespace);
    // The controller is the first container.
    const value = spec.template.spec.containers[0]!.env.find((e) => e.name === env)?.value;
    if (value === undefined) {
      throw new Error(`DaemonSet ${this.namespace}/${this.name} has no ${env} in its environment`);
    }
    return value;
  }

  /** Names of the files of a pod's capture, sorted; empty when its folder is not there. */
  async files(node: string, namespace: string, pod: string): Promise<string[]> {
    const dir = `${await this.setting("CAPTURE_DIR")}/${namespace}/${pod}`;
    const { code, stdout, stderr } = await this.read(node, ["ls", "-A", dir]);
    if (code === 0) return stdout.trim().split("\n").filter(Boolean).sort();
    if (stderr.includes("No such file")) return [];
    throw new Error(`Cannot list ${dir} on ${node}: ${stderr.trim()}`);
  }

  /** Command lines of the tcpdump processes of a pod's capture, as seen in the controller's container. */
  async processes(node: string, namespace: string, pod: string): Promise<string[]> {
    const dir = `${await this.setting("CAPTURE_DIR")}/${namespace}/${pod}/`;
    const { code, stdout, stderr } = await this.exec(node, ["ps", "-o", "args"]);
    if (code !== 0) throw new Error(`Cannot list the processes of the controller on ${node}: ${stderr.trim()}`);
    return stdout.split("\n").filter((line) => line.includes("tcpdump") && line.includes(dir));
  }
}
