/**
 * A node for tests of the whole controller: a real API server (behind the fault proxy), a real containerd, and the controller as
 * a process that sees that runtime's /run. The test plays the kubelet: it makes the pod object and the sandbox.
 *
 *     await using node = await NodeRig.start();
 *     await using controller = await node.startController();
 *     const pod = await node.startPod("web", { annotations: { [KEY]: "5" } });
 *     await node.capturing(pod);
 */
import { basename, join } from "@std/path";
import { endingWithStarter } from "../support/daemon.ts";
import { run } from "../support/run.ts";
import { Hopeless, waitFor } from "../support/wait.ts";
import { askFlush } from "../../src/reading/ask_controller.ts";
import { Runtime } from "../../src/sandboxes/runtime.ts";
import { ApiServer, freePort, type PodObject } from "./apiserver.ts";
import { denoArgs } from "./cli.ts";
import { ContainerdRig, type RigOptions } from "./containerd.ts";
import type { PodOptions, RunningPod } from "./kubelet.ts";
import { FaultProxy } from "./proxy.ts";

export const KEY = "tcpdump.antrea.io";
const NODE = "node-1";

export interface TestPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** The sandbox; undefined where none was made. */
  sandbox: RunningPod | undefined;
}

export interface PodChange {
  namespace?: string;
  annotations?: Record<string, string>;
  /** @default true */
  sandbox?: boolean;
  hostNetwork?: boolean;
}

/** A tcpdump that writes below the capture directory. */
export interface Process {
  readonly pid: number;
  readonly argv: readonly string[];
  /** The folder its files are in. */
  readonly folder: string;
  /** What /proc/PID/ns/net links to. */
  readonly netns: string;
}

export interface RigNodeOptions extends RigOptions {
  /** More arguments for kube-apiserver. */
  readonly apiServerArgs?: readonly string[];
}

export interface ControllerOptions {
  /** Whether to wait until it is. @default true */
  readonly ready?: boolean;
  /** Another main module, to run from the sources. */
  readonly main?: string;
  /** Words before the command. */
  readonly wrap?: readonly string[];
  /** Another command than one that runs the sources. */
  readonly argv?: readonly string[];
  /** Another address of the API server than the proxy's. */
  readonly server?: string;
}

/** The controller with other times than its own (impatient.ts), to start in the place of src/main.ts. */
export const IMPATIENT: string = join(import.meta.dirname!, "impatient.ts");

export class NodeRig implements AsyncDisposable {
  readonly #netns = new Map<string, string>();
  /** The capture directory; made by the controller. */
  readonly captureDir: string;

  private constructor(
    readonly dir: string,
    readonly server: ApiServer,
    readonly proxy: FaultProxy,
    readonly runtime: ContainerdRig,
  ) {
    this.captureDir = join(dir, "captures");
  }

  static async start(options: RigNodeOptions = {}): Promise<NodeRig> {
    const [server, runtime] = await Promise.all([
      ApiServer.start({ args: options.apiServerArgs ?? [] }),
      ContainerdRig.start(options),
    ]);
    const proxy = await FaultProxy.start(server);
    return new NodeRig(await Deno.makeTempDir({ prefix: "packet-capture-node-" }), server, proxy, runtime);
  }

  /** Starts the controller and waits until it is ready, unless asked not to. `env` overrides its settings. */
  async startController(env: Record<string, string> = {}, options: ControllerOptions = {}): Promise<Controller> {
    const { ready = true, main = "src/main.ts", wrap = [], server = this.proxy.url } = options;
    const { argv = [Deno.execPath(), ...denoArgs(main), "controller"] } = options;
    // As the chart's service account: just what its cluster role allows.
    const { user, token } = await this.server.serviceAccount("packet-capture");
    await this.server.grant(user, [
      { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] },
      { apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
    ]);
    const kubeconfig = await this.server.kubeconfig("controller", { token }, server);
    const port = freePort();
    const [program, ...args] = this.runtime.enter([
      // It must not outlive the test, however that ends.
      ...endingWithStarter([...wrap, ...argv]),
    ]);
    const child = new Deno.Command(program!, {
      args,
      env: {
        NODE_NAME: NODE,
        POD_NAME: "packet-capture-test",
        CAPTURE_DIR: this.captureDir,
        KUBECONFIG: kubeconfig,
        HTTP_PORT: String(port),
        HTTP_HOST: "127.0.0.1",
        // The machine's disk may be nearly full; tests of the floor bring their own.
        MIN_FREE_PERCENT: "0",
        LOG_LEVEL: "debug",
        ...env,
      },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const controller = new Controller(child, port);
    if (ready) await controller.ready();
    return controller;
  }

  /** Makes the pod object, then its sandbox, as a kubelet does. */
  async startPod(name: string, change: PodChange = {}): Promise<TestPod> {
    const { namespace = "default" } = change;
    const pod = await this.createPod(name, change);
    if (change.sandbox !== false) {
      await this.startSandbox(pod, change.hostNetwork ? { hostNetwork: true } : {});
    }
    return { ...pod, namespace };
  }

  async createPod(name: string, { namespace = "default", annotations = {} }: PodChange = {}): Promise<TestPod> {
    const object = await this.server.createPod({ namespace, name, node: NODE, annotations });
    return { namespace, name, uid: object.metadata.uid, sandbox: undefined };
  }

  /** Makes a (further) sandbox for the pod. */
  async startSandbox(pod: TestPod, options: PodOptions = {}): Promise<RunningPod> {
    const { namespace, name, uid } = pod;
    return pod.sandbox = await this.runtime.kubelet.runPod({ namespace, name, uid, ...options });
  }

  /** Deletes the pod object, then its sandbox. */
  async deletePod(pod: TestPod): Promise<void> {
    await this.server.deletePod(pod.name, 0, pod.namespace);
    if (pod.sandbox) await this.runtime.kubelet.removePod(pod.sandbox);
    pod.sandbox = undefined;
  }

  /** Sets our annotations: the main key for "", sub-keys by their names; null removes one. */
  async annotate(pod: TestPod, annotations: Record<string, string | null>): Promise<PodObject> {
    const full = Object.entries(annotations).map(([name, value]) => [name === "" ? KEY : `${KEY}/${name}`, value]);
    return await this.server.annotate(pod.name, Object.fromEntries(full), pod.namespace);
  }

  folderOf(pod: TestPod): string {
    return join(this.captureDir, pod.namespace, pod.name);
  }

  /** Every tcpdump that writes below the capture directory. */
  async processes(): Promise<Process[]> {
    const found: Process[] = [];
    for await (const { name } of Deno.readDir("/proc")) {
      const process = /^[0-9]+$/.test(name) ? await this.#process(Number(name)) : undefined;
      if (process) found.push(process);
    }
    return found;
  }

  /** The process with this id, if it writes below the capture directory. */
  async #process(pid: number): Promise<Process | undefined> {
    const argv = (await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "")).split("\0").slice(0, -1);
    const file = argv[argv.indexOf("-w") + 1] ?? "";
    if (!argv.includes("-w") || !file.startsWith(`${this.captureDir}/`)) return undefined;
    // A zombie has no command line, so what has one is alive; nsenter becomes tcpdump without changing its id.
    const netns = await Deno.readLink(`/proc/${pid}/ns/net`).catch(() => "");
    return { pid, argv, folder: file.slice(0, file.lastIndexOf("/")), netns };
  }

  /** The pod's tcpdump. Two at once are wrong at any moment: that ends a `waitFor` around it, too. */
  async processOf(pod: TestPod): Promise<Process | undefined> {
    const folder = this.folderOf(pod);
    const own = (await this.processes()).filter((process) => process.folder === folder);
    if (own.length < 2) return own[0];
    // /proc is not read in one moment: one may have ended before the other began. Who is still there was there with the other.
    const there: Process[] = [];
    for (const { pid } of own) {
      const process = await this.#process(pid);
      if (process?.folder === folder) there.push(process);
    }
    if (there.length < 2) return there[0];
    throw new Hopeless(
      `${there.length} tcpdump of ${pod.name} at once: processes ${there.map(({ pid }) => pid).join(", ")}`,
    );
  }

  /** Waits until a tcpdump of the pod listens, in the netns of its sandbox. */
  async capturing(pod: TestPod, timeoutMs = 10_000): Promise<Process> {
    return await waitFor(`the capture of ${pod.name}`, async () => {
      const process = await this.processOf(pod);
      if (!process || process.argv[0]?.includes("nsenter")) return undefined;
      return await hasOpenFile(process.pid, process.folder) ? process : undefined;
    }, { timeoutMs, everyMs: 10 });
  }

  /** Waits until the pod has neither process nor files. */
  async clean(pod: TestPod, timeoutMs = 10_000): Promise<void> {
    await waitFor(`no process and no file of ${pod.name}`, async () => {
      return await this.processOf(pod) === undefined && !await exists(this.folderOf(pod));
    }, { timeoutMs, everyMs: 10 });
  }

  /** Names of the pcap files in the pod's folder. */
  async files(pod: TestPod): Promise<string[]> {
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir(this.folderOf(pod))) if (name.includes(".pcap")) names.push(name);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return names.sort();
  }

  /** What capture.json says; undefined if there is none. */
  // deno-lint-ignore no-explicit-any -- a test looks at what it wants
  async manifest(pod: TestPod): Promise<any> {
    const text = await Deno.readTextFile(join(this.folderOf(pod), "capture.json")).catch(() => undefined);
    return text && JSON.parse(text);
  }

  /** Waits until capture.json has this state. */
  async inState(pod: TestPod, state: string, timeoutMs = 10_000): Promise<void> {
    await waitFor(`state ${state} of ${pod.name}`, async () => (await this.manifest(pod))?.state === state, {
      timeoutMs,
      everyMs: 20,
    });
  }

  /** The words that run a command in the network namespace of the pod's sandbox. */
  async inNetns(pod: TestPod, argv: readonly string[]): Promise<string[]> {
    return ["nsenter", `--net=${await this.netnsPath(pod)}`, "--", ...argv];
  }

  /** The pod's netns file, as the test process sees it. */
  async netnsPath(pod: TestPod): Promise<string> {
    const known = this.#netns.get(pod.sandbox!.id);
    if (known) return known;
    const runtime = new Runtime(this.runtime.socket);
    try {
      const { info } = await runtime.status(pod.sandbox!.id);
      const { runtimeSpec } = JSON.parse(info["info"] ?? "{}");
      const { path } = runtimeSpec.linux.namespaces.find(({ type }: { type: string }) => type === "network");
      const netns = join(this.runtime.netnsDir, basename(path));
      this.#netns.set(pod.sandbox!.id, netns);
      return netns;
    } finally {
      runtime[Symbol.dispose]();
    }
  }

  /** Sends datagrams from the pod to itself, over its loopback, each with a text of its own: `<token>-<number>`. */
  async send(pod: TestPod, token: string, count = 1, first = 0): Promise<void> {
    const script = `for ((i = $2; i < $2 + $3; i++)); do echo "$1-$i" >/dev/udp/127.0.0.1/9 || true; done 2>/dev/null`;
    await run(await this.inNetns(pod, ["bash", "-c", script, "bash", token, String(first), String(count)]));
  }

  /** Has the pod's tcpdump write what it has buffered, as a reader does; without a controller, or a tcpdump, it does nothing. */
  async flush(pod: TestPod): Promise<void> {
    await askFlush(this.captureDir, { namespace: pod.namespace, pod: pod.name }, new AbortController().signal);
  }

  /** Numbers of the token's packets in all the pod's files, by tshark, in the order of the files' names; each once a file. */
  async received(pod: TestPod, token: string): Promise<number[]> {
    await this.flush(pod);
    const numbers: number[] = [];
    for (const name of await this.files(pod)) numbers.push(...await numbersIn(join(this.folderOf(pod), name), token));
    return numbers;
  }

  /** Waits until at least one of the token's packets is in a file: sends until then. */
  async sees(pod: TestPod, token: string, timeoutMs = 10_000): Promise<void> {
    await waitFor(`packets ${token} in the files of ${pod.name}`, async () => {
      await this.send(pod, token);
      return (await this.received(pod, token)).length > 0;
    }, { timeoutMs, everyMs: 200 });
  }

  /** Reasons and notes of the Events on the pod, oldest first. */
  async events(pod: TestPod): Promise<{ reason: string; note: string; type: string }[]> {
    const path = `/apis/events.k8s.io/v1/namespaces/${pod.namespace}/events`;
    const { items } = await this.server.call("GET", path) as {
      items: { reason: string; note: string; type: string; eventTime: string; regarding: { uid: string } }[];
    };
    return items.filter((item) => item.regarding.uid === pod.uid)
      .sort((a, b) => a.eventTime < b.eventTime ? -1 : 1);
  }

  async hasEvent(pod: TestPod, reason: string, timeoutMs = 10_000): Promise<{ note: string; type: string }> {
    return await waitFor(
      `Event ${reason} on ${pod.name}`,
      async () => (await this.events(pod)).find((event) => event.reason === reason),
      { timeoutMs, everyMs: 50 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { pid } of await this.processes()) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It has ended already.
      }
    }
    await this.proxy[Symbol.asyncDispose]();
    await Promise.all([this.runtime[Symbol.asyncDispose](), this.server[Symbol.asyncDispose]()]);
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** The controller as a process. */
export class Controller implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly exited: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  #ended = false;

  constructor(child: Deno.ChildProcess, readonly port: number) {
    this.#child = child;
    const read = this.#read();
    this.exited = child.status.then(async (status) => {
      this.#ended = true;
      await read;
      return status;
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  get log(): string {
    return this.lines.join("\n");
  }

  /** Waits until /readyz says so. */
  async ready(timeoutMs = 20_000): Promise<void> {
    let reason = "";
    try {
      await waitFor("the controller to be ready", async () => {
        if (this.#ended) throw new Error(`it ended: ${this.lines.slice(-5).join("\n")}`);
        const [status, text] = await this.get("/readyz");
        reason = text;
        return status === 200;
      }, { timeoutMs, everyMs: 20 });
    } catch (error) {
      throw new Error(`${(error as Error).message} ${reason}\n${this.lines.slice(-20).join("\n")}`);
    }
  }

  async get(path: string): Promise<[number, string]> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { signal: AbortSignal.timeout(5000) });
    return [response.status, await response.text()];
  }

  /** One sample of /metrics, by its name with labels; undefined if there is none. */
  async metric(name: string): Promise<number | undefined> {
    const [, text] = await this.get("/metrics");
    const line = text.split("\n").find((line) => line.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.split(" ").at(-1));
  }

  /** Waits until a log line matches. */
  async says(pattern: RegExp, timeoutMs = 10_000): Promise<string> {
    return await waitFor(`log line ${pattern}`, () => this.lines.find((line) => pattern.test(line)), {
      timeoutMs,
      everyMs: 20,
    });
  }

  /** SIGTERM; waits for its end. */
  async stop(): Promise<Deno.CommandStatus> {
    return await this.end("SIGTERM");
  }

  async end(signal: Deno.Signal): Promise<Deno.CommandStatus> {
    if (!this.#ended) this.#child.kill(signal);
    return await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const chunk of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      this.lines.push(...lines);
      if (Deno.env.get("RIG_LOG")) {
        for (const line of lines) Deno.stderr.writeSync(new TextEncoder().encode(`  | ${line}\n`));
      }
    }
  }
}

/** The numbers of `<token>-<number>` in a pcap file, by tshark alone; each as often as it is there. */
export async function numbersIn(file: string, token: string): Promise<number[]> {
  // A file that is still being written may end in the middle of a packet: tshark gives what is whole, and exits with 2.
  // udp.payload and not data.data: where a random source port is one that tshark takes for a protocol, there is no `data`.
  const { stdout } = await new Deno.Command("tshark", {
    args: ["-n", "-r", file, "-Y", `udp.dstport == 9`, "-T", "fields", "-e", "udp.payload"],
    stderr: "null",
  }).output();
  const numbers: number[] = [];
  for (const hex of new TextDecoder().decode(stdout).split("\n")) {
    const text = (hex.match(/../g) ?? []).map((byte) => String.fromCharCode(parseInt(byte, 16))).join("");
    if (text.startsWith(`${token}-`)) numbers.push(Number(text.slice(token.length + 1)));
  }
  return numbers;
}

/**
 * Whether the process has a file of the folder open. It is the last thing that tcpdump does before it listens: its socket is there
 * some milliseconds earlier, and what the socket holds when the filter is set is thrown away.
 */
async function hasOpenFile(pid: number, folder: string): Promise<boolean> {
  try {
    for await (const { name } of Deno.readDir(`/proc/${pid}/fd`)) {
      const target = await Deno.readLink(`/proc/${pid}/fd/${name}`).catch(() => "");
      if (target.startsWith(`${folder}/`)) return true;
    }
  } catch {
    // It has ended.
  }
  return false;
}

export async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
