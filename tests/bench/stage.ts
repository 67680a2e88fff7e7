/** A node for measurements: pods of a usual size with real sandboxes, controllers as the image runs them, and who looks from outside. */
import { join } from "@std/path";
import { run } from "../support/run.ts";
import { ROOT } from "../rig/cli.ts";
import { chunksOf } from "../../src/base/body.ts";
import { LineSplitter } from "../../src/base/line_splitter.ts";
import { each, ROOMY } from "../faults/crowd.ts";
import { type Controller, NodeRig, type TestPod } from "../rig/node.ts";

/** As tools/image-program has them. */
const IMAGE_FLAGS = [
  ...["--quiet", "--no-config", "--no-lock", "--no-remote", "--no-npm", "--no-code-cache", "--allow-all"],
  "--v8-flags=--max-semi-space-size=1,--optimize-for-size",
];

/** As kubelet and deployment controller write it. */
const POD = JSON.parse(
  Deno.readTextFileSync(new URL("../integration/pods/testdata/pod.json", import.meta.url)),
);
const PODS = "/api/v1/namespaces/default/pods";

export const METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/** What the image's entry point runs. */
export function program(): string[] {
  return [Deno.execPath(), "run", ...IMAGE_FLAGS, join(ROOT, "dist/packet-capture.cjs")];
}

/** A controller that takes the annotation: ours, or another one to compare with. */
export interface Contender {
  readonly name: "ours" | "peer";
  readonly argv: readonly string[];
}

/** Ours and, if PEER has a command line, the peer. */
export function contenders(): Contender[] {
  const peer = Deno.env.get("PEER")?.trim();
  const ours: Contender = { name: "ours", argv: [...program(), "controller"] };
  return peer ? [ours, { name: "peer", argv: peer.split(/\s+/) }] : [ours];
}

/** Waits, looking every millisecond. @returns performance.now() when it was so. */
export async function until(what: string, isSo: () => boolean, timeoutMs = 60_000): Promise<number> {
  const late = performance.now() + timeoutMs;
  while (!isSo()) {
    if (performance.now() > late) throw new Error(`Not within ${timeoutMs / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now();
}

/** A pod with a sandbox, and a process in its network namespace that the benchmark looks through. */
export class Station {
  constructor(readonly pod: TestPod, readonly netns: string, readonly watcher: Deno.ChildProcess) {}

  /** Whether somebody has a packet socket in the pod's network namespace. */
  get isOpen(): boolean {
    const table = Deno.readTextFileSync(`/proc/${this.watcher.pid}/net/packet`);
    return table.indexOf("\n") !== table.length - 1;
  }

  /** The pod's IPv4 address. */
  async address(): Promise<string> {
    const text = await run(["nsenter", `--net=${this.netns}`, "--", "ip", "-4", "-o", "addr", "show", "eth0"]);
    const address = /inet ([0-9.]+)\//.exec(text)?.[1];
    if (address === undefined) throw new Error(`No address in ${JSON.stringify(text)}`);
    return address;
  }
}

export interface Running extends AsyncDisposable {
  readonly controller: Controller;
  readonly captureDir: string;
  /** Whether no file of a capture is in captureDir: none but what the controller keeps of its own, in dot files at the top. */
  readonly isClean: () => boolean;
}

export interface RunOptions {
  /** Words before its command. */
  readonly wrap?: readonly string[];
  /** @default one of its own */
  readonly captureDir?: string;
  /** Whether to wait until it is ready. @default true */
  readonly ready?: boolean;
  /** Address of the API server. @default its own, without the proxy for faults */
  readonly server?: string;
}

export class Stage implements AsyncDisposable {
  readonly stations: Station[] = [];
  /** All pods of the node, also those without a sandbox. */
  readonly pods: TestPod[] = [];

  #updates = 0;

  private constructor(readonly node: NodeRig) {}

  static async start(): Promise<Stage> {
    return new Stage(await NodeRig.start());
  }

  /** Makes pods with sandboxes until there are so many. */
  async addStations(count: number): Promise<void> {
    await each(numbers(count - this.stations.length), async () => {
      const pod = await this.#addPod();
      await this.node.startSandbox(pod);
      const netns = await this.node.netnsPath(pod);
      const watcher = new Deno.Command("setpriv", {
        args: ["--pdeathsig", "KILL", "--", "nsenter", `--net=${netns}`, "--", "sleep", "infinity"],
        stdin: "null",
      }).spawn();
      const own = await Deno.readLink("/proc/self/ns/net");
      await until("a watcher in the netns", () => Deno.readLinkSync(`/proc/${watcher.pid}/ns/net`) !== own);
      this.stations.push(new Station(pod, netns, watcher));
    });
  }

  /** Makes pods without sandboxes until there are so many of both kinds. */
  async addPods(count: number): Promise<void> {
    await each(numbers(count - this.pods.length), () => this.#addPod());
  }

  async #addPod(): Promise<TestPod> {
    const name = `web-${this.pods.length}`;
    const pod: TestPod = { namespace: "default", name, uid: "", sandbox: undefined };
    this.pods.push(pod);
    const object = { ...POD, metadata: { ...POD.metadata, name }, status: undefined };
    const { metadata } = await this.node.server.call("POST", PODS, object);
    Object.assign(pod, { uid: metadata.uid });
    await this.update(pod);
    return pod;
  }

  /** What a kubelet does when something changes in a pod: a new status. */
  async update(pod: TestPod): Promise<void> {
    const status = { ...POD.status, message: `update ${this.#updates++}` };
    await this.node.server.call("PATCH", `${PODS}/${pod.name}/status?fieldManager=kubelet`, { status });
  }

  /** Starts a controller; ready when it captures. */
  async run(contender: Contender, options: RunOptions = {}): Promise<Running> {
    const { wrap = [], captureDir = join(this.node.dir, contender.name), ready = true } = options;
    const { server = this.node.server.url } = options;
    await Deno.mkdir(captureDir, { recursive: true });
    const env = { ...ROOMY, CAPTURE_DIR: captureDir, LOG_LEVEL: "info" };
    const controller = await this.node.startController(env, {
      ready: ready && contender.name === "ours",
      argv: contender.argv,
      server,
      wrap,
    });
    const station = this.stations[0];
    if (contender.name === "peer" && station) {
      // It may say that it is ready in a way of its own: what it does says so too.
      await this.node.annotate(station.pod, { "": "2" });
      await until("the peer's first capture", () => station.isOpen);
      await this.node.annotate(station.pod, { "": null });
      await until("the end of the peer's first capture", () => !station.isOpen);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    const before = new Set(filesBelow(captureDir));
    const isClean = () => {
      return filesBelow(captureDir).every((path) => before.has(path) || path.startsWith(`${captureDir}/.`));
    };
    return {
      controller,
      captureDir,
      isClean,
      [Symbol.asyncDispose]: async () => {
        await controller.stop();
        await controller[Symbol.asyncDispose]();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { watcher } of this.stations) watcher.kill("SIGKILL");
    await Promise.all(this.stations.map(({ watcher }) => watcher.status));
    await this.node[Symbol.asyncDispose]();
  }
}

/** A watch of the benchmark's own on the node's pods: each line as it comes, until it is disposed. */
export async function watchPods(
  stage: Stage,
  query: string,
  accept: string,
  onLine: (line: string) => void,
): Promise<AsyncDisposable> {
  const end = new AbortController();
  const path = `/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dnode-1&${query}`;
  const response = await stage.node.server.admin.open(path, { headers: { Accept: accept }, signal: end.signal });
  const reading = (async () => {
    const lines = new LineSplitter();
    for await (const chunk of chunksOf(response.body!, end.signal)) {
      for (const line of lines.take(chunk)) onLine(line);
    }
  })().catch((error) => {
    if (!end.signal.aborted) throw error;
  });
  return {
    async [Symbol.asyncDispose]() {
      end.abort();
      await reading;
    },
  };
}

function filesBelow(dir: string): string[] {
  const found: string[] = [];
  try {
    for (const { name, isDirectory } of Deno.readDirSync(dir)) {
      const path = `${dir}/${name}`;
      if (isDirectory) found.push(...filesBelow(path));
      else found.push(path);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found;
}

function numbers(count: number): number[] {
  return Array.from({ length: Math.max(0, count) }, (_, i) => i);
}
