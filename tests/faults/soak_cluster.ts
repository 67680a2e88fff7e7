/** A soak's ground on the local cluster: the release that `make deploy` has installed, spoken to as a user does. */
import { existsSync } from "node:fs";
import { join } from "@std/path";
import { clusterDir } from "../cluster/config.ts";
import { waitFor } from "../support/wait.ts";
import { Kube, type KubeObject } from "../e2e/kube.ts";
import { PING_NODE, testPod } from "../e2e/pods.ts";
import { Release } from "../e2e/release.ts";
import { KEY } from "../rig/node.ts";
import { footprintOf } from "./crowd.ts";
import type { Ground, Taken } from "./soak_ground.ts";

const NAMESPACE = "soak";
/** A line of its own between what the parts of a script say. */
const BETWEEN = "=====";

export class ClusterGround implements Ground {
  readonly name: string;
  readonly #kube: Kube;
  readonly #release: Release;
  readonly #nodes: readonly string[];

  private constructor(kube: Kube, release: Release, nodes: readonly string[]) {
    this.#kube = kube;
    this.#release = release;
    this.#nodes = nodes;
    this.name = `release ${release.name} in namespace ${release.namespace}, on ${nodes.join(" and ")}`;
  }

  /** Whether a cluster is up. */
  static isThere(): boolean {
    return existsSync(join(clusterDir(), "kubeconfig"));
  }

  /** @throws Error if the release is not installed. */
  static async start(): Promise<ClusterGround> {
    const kube = new Kube();
    const release = Release.of(kube, { namespace: Deno.env.get("NAMESPACE") || "packet-capture" });
    const { code } = await kube.tryKubectl(["get", "daemonset", release.name, "-n", release.namespace]);
    if (code !== 0) {
      throw new Error(`No release ${release.name} in namespace ${release.namespace} of the cluster: run make deploy`);
    }
    await release.ready();
    const ground = new ClusterGround(kube, release, await kube.workers());
    await kube.remove(ground.#namespace); // of a soak that was killed
    await kube.apply(ground.#namespace);
    await kube.serviceAccount(NAMESPACE);
    return ground;
  }

  get #namespace(): KubeObject {
    return { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } };
  }

  async round(count: number): Promise<void> {
    const kube = this.#kube;
    const pods = Array.from({ length: count }, (_, i) =>
      testPod({
        name: `pod-${i}`,
        namespace: NAMESPACE,
        node: this.#nodes[i % this.#nodes.length]!,
        command: PING_NODE,
        annotations: { [KEY]: "2" },
      }));
    const annotate = (names: readonly string[], word: string) =>
      kube.kubectl(["annotate", "--overwrite", "pod", "-n", NAMESPACE, ...names, word]);
    const names = pods.map(({ metadata }) => metadata.name);
    const [some, others] = [names.slice(0, count / 2), pods.slice(count / 2)];
    await kube.apply(...pods);
    await this.#captured(count, "2");
    await Promise.all(this.#nodes.map((node) => this.#killOne(node)));
    await annotate(names, `${KEY}=3`);
    await this.#captured(count, "3");
    await annotate(some, `${KEY}-`);
    await kube.remove(...others);
    await this.#captured(0, "3");
    await waitFor("no files", async () => {
      return (await Promise.all(this.#nodes.map((node) => this.#lines(node, `ls -R "$CAPTURE_DIR"`)))).flat()
        .every((line) => !line.includes(`/${NAMESPACE}`));
    }, { everyMs: 500 });
    await kube.remove(...pods);
  }

  async taken(): Promise<Record<string, Taken>> {
    const all: Record<string, Taken> = {};
    for (const node of this.#nodes) {
      // tini has started it first.
      const lines = await this.#lines(
        node,
        `read -r pid rest </proc/1/task/1/children; cat /proc/$pid/status; echo ${BETWEEN}; ls /proc/$pid/fd; echo ${BETWEEN}
         ls -AR "$CAPTURE_DIR"`,
      );
      const [status = "", fds = "", files = ""] = lines.join("\n").split(`${BETWEEN}\n`);
      all[node] = {
        ...footprintOf(status, fds.trim().split("\n").length),
        files: files.split("\n").filter((line) => line !== "" && !line.endsWith(":")).length,
      };
    }
    return all;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kube.remove(this.#namespace);
  }

  /** Waits until just so many tcpdump of this soak run, each with so many files. */
  async #captured(count: number, files: string): Promise<void> {
    await waitFor(`${count} captures of ${files} files`, async () => {
      const lines = (await Promise.all(this.#nodes.map((node) => this.#lines(node, "ps -o args")))).flat();
      const own = lines.filter((line) => line.includes("tcpdump") && line.includes(`/${NAMESPACE}/`));
      return own.length === count && own.every((line) => line.includes(` -W ${files} `));
    }, { timeoutMs: 180_000, everyMs: 500 });
  }

  /** Kills one tcpdump on the node. */
  async #killOne(node: string): Promise<void> {
    await this.#lines(
      node,
      `for dir in /proc/[0-9]*; do read -r name <$dir/comm; [ "$name" != tcpdump ] || exec kill -9 \${dir#/proc/}; done`,
    );
  }

  /** What a script says that is run in the controller's container. */
  async #lines(node: string, script: string): Promise<string[]> {
    const { code, stdout, stderr } = await this.#release.exec(node, ["sh", "-c", script]);
    if (code !== 0) throw new Error(`Cannot look into the controller on ${node}: ${stderr.trim()}`);
    return stdout.split("\n");
  }
}
