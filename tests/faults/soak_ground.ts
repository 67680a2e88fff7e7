/** Where pods are made and unmade for hours: what a soak asks of a place, and the place without a cluster. */
import { type Controller, NodeRig } from "../rig/node.ts";
import { allCaptured, each, type Footprint, footprint, ROOMY, startCrowd } from "./crowd.ts";
import { nothingLeft } from "./node.ts";

/** What one controller takes, and the files below its capture directory. */
export interface Taken extends Footprint {
  readonly files: number;
}

export interface Ground extends AsyncDisposable {
  /** What it is, for people. */
  readonly name: string;
  /** Makes pods and has them captured, changes that, ends some of the tcpdump, and unmakes them; then nothing is left of any. */
  round(pods: number): Promise<void>;
  /** What each controller takes now, by its node. */
  taken(): Promise<Record<string, Taken>>;
}

/** The test node of tests/rig: the controller from its sources, a real runtime and a real API server. */
export class NodeGround implements Ground {
  readonly name = "a test node, since no cluster is up";
  readonly #node: NodeRig;
  readonly #controller: Controller;

  private constructor(node: NodeRig, controller: Controller) {
    this.#node = node;
    this.#controller = controller;
  }

  static async start(): Promise<NodeGround> {
    const node = await NodeRig.start();
    return new NodeGround(node, await node.startController({ ...ROOMY, LOG_LEVEL: "info" }));
  }

  async round(count: number): Promise<void> {
    const node = this.#node;
    const pods = await startCrowd(node, count, "2");
    await allCaptured(node, new Map(pods.map((pod) => [pod, "2"])), 120_000);
    await each(pods, (pod) => node.send(pod, "soak", 20));
    for (const { pid } of (await node.processes()).slice(0, 5)) Deno.kill(pid, "SIGKILL");
    node.proxy.resetAll();
    await each(pods, (pod) => node.annotate(pod, { "": "3" }));
    await allCaptured(node, new Map(pods.map((pod) => [pod, "3"])), 120_000);
    const [some, others] = [pods.slice(0, count / 2), pods.slice(count / 2)];
    await each(some, (pod) => node.annotate(pod, { "": null }));
    await each(others, (pod) => node.deletePod(pod));
    await nothingLeft(node, 60_000);
    await each(some, (pod) => node.deletePod(pod));
  }

  async taken(): Promise<Record<string, Taken>> {
    let files = 0;
    const folders = [this.#node.captureDir];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      for await (const { name, isDirectory } of Deno.readDir(folder)) {
        if (isDirectory) folders.push(`${folder}/${name}`);
        else files++;
      }
    }
    return { "node-1": { ...await footprint(this.#controller), files } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#controller[Symbol.asyncDispose]();
    await this.#node[Symbol.asyncDispose]();
  }
}
