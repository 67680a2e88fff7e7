/**
 * A node's container runtime for tests: a real containerd with runc and the bridge CNI plugin, in namespaces of its own, so that
 * its socket is /run/containerd/containerd.sock and its netns files are in /run/netns as on a node, and nothing of the machine's
 * is touched. Everything dies with the test process, also when that is killed (PR_SET_PDEATHSIG of the PID namespace's holder).
 * It takes 0.3 s, a sandbox 0.1 s. Its /run is a shared tmpfs, so netns files appear as in a DaemonSet's HostToContainer mount. All
 * other mounts are private: an unmount that propagates would take the machine's own namespaces away.
 *
 *     await using rig = await ContainerdRig.start({ version: "2" });
 *     const pod = await rig.kubelet.runPod({ name: "web-0" });
 *     new Sandboxes({ socket: rig.socket, netnsDir: rig.netnsDir, … });
 */
import { basename, join } from "@std/path";
import { CNI_PLUGINS, configureContainerd, importing, writeBridgeNetwork } from "../support/containerd.ts";
import { childOf, endingWithStarter, startOf } from "../support/daemon.ts";
import { testImages } from "../support/images.ts";
import { isThere } from "../support/paths.ts";
import { attempt, run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { containerdBinaries, type ContainerdVersion } from "./containerd_binaries.ts";
import { Kubelet } from "./kubelet.ts";

const PREFIX = "packet-capture-rig-";
const SOCKET = "run/containerd/containerd.sock";
const NETNS_DIR = "run/netns";

export interface RigOptions {
  /** @default "2" */
  version?: ContainerdVersion;
}

export class ContainerdRig implements AsyncDisposable {
  /** The runtime's socket, as seen by the test process. Inside ({@linkcode ContainerdRig.enter}) it is /run/containerd/containerd.sock. */
  readonly socket: string;
  /** The runtime's netns files, as seen by the test process. Inside it is /run/netns. */
  readonly netnsDir: string;
  /** To make and end pods with. */
  readonly kubelet: Kubelet;

  readonly #dir: string;
  readonly #binaries: string;
  readonly #holder: Deno.ChildProcess;
  #containerd: { readonly child: Deno.ChildProcess; readonly pid: number } | undefined;

  private constructor(dir: string, binaries: string, holder: Deno.ChildProcess) {
    this.#dir = dir;
    this.#binaries = binaries;
    this.#holder = holder;
    this.socket = join(dir, SOCKET);
    this.netnsDir = join(dir, NETNS_DIR);
    this.kubelet = new Kubelet(this.socket, `/${basename(dir)}`);
  }

  /** Starts a runtime that answers when this resolves. What killed test runs have left is removed first. */
  static async start({ version = "2" }: RigOptions = {}): Promise<ContainerdRig> {
    const binaries = await containerdBinaries(version);
    const images = (await testImages()).filter((tar) => /\/(pause|busybox)-/.test(tar));
    await removeStale();
    const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: PREFIX }));
    await Deno.writeTextFile(join(dir, "owner"), `${Deno.pid} ${startOf(Deno.pid)}`);
    await writeConfig(dir, version);
    await Deno.mkdir(join(dir, "run"));
    await run(["mount", "-t", "tmpfs", "tmpfs", join(dir, "run")]);
    await run(["mount", "--make-shared", join(dir, "run")]);
    const [program, ...args] = endingWithStarter([
      ...["unshare", "--mount", "--net", "--propagation", "unchanged", "--"],
      ...["sh", join(import.meta.dirname!, "containerd.sh"), dir],
    ]);
    const holder = new Deno.Command(program!, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const rig = new ContainerdRig(dir, binaries, holder);
    try {
      await ready(holder);
      await rig.startRuntime();
      await Promise.all(
        images.map((tar) => rig.#inside(importing(tar, binaries))),
      );
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
    return rig;
  }

  /** Process id of containerd; undefined while it is not running. */
  get runtimePid(): number | undefined {
    return this.#containerd?.pid;
  }

  /**
   * The words that run `argv` on the rig's "node": it sees the runtime's /run and has the process id that it is started with. Its
   * network is the machine's, so that servers of the test can be reached, or the node's if `net` is set.
   */
  enter(argv: readonly string[], { net = false }: { net?: boolean } = {}): string[] {
    return ["nsenter", `--target=${this.#holder.pid}`, "--mount", ...(net ? ["--net"] : []), "--", ...argv];
  }

  /** Starts containerd and waits until it answers. Its socket is made again; pods of an earlier containerd go on. */
  async startRuntime(): Promise<void> {
    const child = new Deno.Command("nsenter", {
      args: [`--target=${await childOf(this.#holder.pid)}`, "--pid", "--mount", "--net", "--"]
        .concat([join(this.#binaries, "containerd"), "--config", join(this.#dir, "containerd.toml")]),
      env: { PATH: `${this.#binaries}:${Deno.env.get("PATH")}` },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    void child.stderr.pipeTo((await Deno.open(this.logPath, { create: true, append: true })).writable);
    this.#containerd = { child, pid: await childOf(child.pid) };
    let ended = false;
    void child.status.then(() => ended = true);
    await waitFor("containerd", async () => {
      if (ended) throw new Error(`it ended: ${(await Deno.readTextFile(this.logPath)).slice(-2000)}`);
      return await this.kubelet.version(1000);
    }, { timeoutMs: 20_000, everyMs: 20 });
  }

  /** Kills containerd with SIGKILL; pods go on. Resolves when it has ended. */
  async killRuntime(): Promise<void> {
    const running = this.#containerd;
    if (!running) return;
    this.#containerd = undefined;
    Deno.kill(running.pid, "SIGKILL");
    await running.child.status;
  }

  /** SIGSTOP: the runtime's socket takes connections, and nobody answers. */
  pauseRuntime(): void {
    if (this.#containerd) Deno.kill(this.#containerd.pid, "SIGSTOP");
  }

  /** Ends {@linkcode ContainerdRig.pauseRuntime}. */
  resumeRuntime(): void {
    if (!this.#containerd) return;
    Deno.kill(this.#containerd.pid, "SIGCONT");
    // nsenter stops itself when what it has started is stopped.
    this.#containerd.child.kill("SIGCONT");
  }

  /** Where containerd's own log is. */
  get logPath(): string {
    return join(this.#dir, "containerd.log");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kubelet[Symbol.dispose]();
    this.resumeRuntime();
    try {
      this.#holder.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#holder.status;
    await this.#containerd?.child.status;
    await remove(this.#dir);
  }

  async #inside(argv: readonly string[]): Promise<void> {
    await run(["nsenter", `--target=${await childOf(this.#holder.pid)}`, "--pid", "--mount", "--net", "--", ...argv]);
  }
}

async function writeConfig(dir: string, version: ContainerdVersion): Promise<void> {
  const root = "/run/containerd/root", state = "/run/containerd/state";
  const cni = join(dir, "cni");
  const network = { subnet: "10.244.9.0/24" };
  // Nobody asks for statistics; with hundreds of sandboxes they take both cores for a second.
  const [current, old] = [`stats_collect_period = "1h"`, "stats_collect_period = 3600"];
  await Deno.mkdir(cni);
  if (version === "2") {
    await configureContainerd({ root, state, dir, cni, network, runtime: [current] });
    return;
  }
  await writeBridgeNetwork(cni, network);
  await Deno.writeTextFile(
    join(dir, "containerd.toml"),
    `version = 2
root = "${root}"
state = "${state}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true # the machine may lack CAP_SYS_RESOURCE
${old}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${CNI_PLUGINS}"
conf_dir = "${cni}"
`,
  );
}

async function ready(holder: Deno.ChildProcess): Promise<void> {
  const deadline = setTimeout(() => holder.kill("SIGKILL"), 60_000);
  for await (const text of holder.stdout.pipeThrough(new TextDecoderStream())) {
    if (text.includes("ready")) {
      clearTimeout(deadline);
      return;
    }
  }
  clearTimeout(deadline);
  throw new Error("Cannot make the rig's namespaces (its words are above; it needs root)");
}

/** Removes what is left of a rig whose processes have ended: its mounts, cgroups and folder. */
async function remove(dir: string): Promise<void> {
  await attempt(["umount", "--lazy", "--recursive", join(dir, "run")]);
  const root = "/sys/fs/cgroup"; // version 1 has a folder for each hierarchy, version 2 is one
  const hierarchies = Array.from(Deno.readDirSync(root)).filter((entry) => entry.isDirectory).map(({ name }) => name);
  for (const hierarchy of ["", ...hierarchies]) {
    const cgroup = join(root, hierarchy, basename(dir));
    if (!await isThere(cgroup)) continue;
    // A cgroup can be removed once the kernel has done away with its last process.
    await waitFor(`the end of the processes in ${cgroup}`, async () => {
      return (await attempt(["find", cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])).code === 0;
    }, { timeoutMs: 10_000, everyMs: 20 });
  }
  await Deno.remove(dir, { recursive: true });
}

/** Removes what rigs of test processes that are no more have left. */
async function removeStale(): Promise<void> {
  const tmp = Deno.env.get("TMPDIR") || "/tmp";
  for await (const { name } of Deno.readDir(tmp)) {
    if (!name.startsWith(PREFIX)) continue;
    const [pid, start] = (await Deno.readTextFile(join(tmp, name, "owner")).catch(() => "")).split(" ");
    if (!pid || startOf(Number(pid)) === start) continue;
    await remove(join(tmp, name)).catch(() => {}); // two runs may do so at once
  }
}
