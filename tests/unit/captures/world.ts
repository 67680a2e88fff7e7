/**
 * All captures of a node with nothing around them but a capture directory: the test says what the API and the runtime would say,
 * and a script stands in for tcpdump, which makes the files of its ring at once and obeys signals.
 */
import { join } from "@std/path";
import { waitFor } from "../../support/wait.ts";
import { CaptureDir } from "../../../src/store/capture_dir.ts";
import { Captures } from "../../../src/captures/captures.ts";
import type { DiskFloor } from "../../../src/limits/disk.ts";
import type { Manifest } from "../../../src/store/manifest.ts";
import { CAPTURE_TIMING, type CaptureTiming } from "../../../src/timing.ts";
import type { Log } from "../../../src/log.ts";
import { Metrics } from "../../../src/metrics.ts";
import { type Pod, podKey } from "../../../src/pods/pod.ts";
import type { PodStatus } from "../../../src/pods/status.ts";
import type { Sandbox, SandboxOwner } from "../../../src/sandboxes/sandbox.ts";
import { readSettings } from "../../../src/settings.ts";

export const KEY = "tcpdump.antrea.io";

/**
 * Files next to the script steer it: `fail` (printed before it ends), `mute` (it does not report that it listens), `check` (run by
 * `-d`), `devices` (run by `-D`), `link` (the link type of every named interface). Of its calls it makes a line in `starts` and `checks`.
 */
const TCPDUMP = `#!/bin/bash
here=$(dirname "$0")
for ((i = 1; i <= $#; i++)); do
  next=$((i + 1))
  case \${!i} in
    -W) last=$((\${!next} - 1)) ;;
    -w) base=\${!next} ;;
    -c) packets=\${!next} ;;
    -L)
      printf 'Data link types (use option -y to set):\\n  %s (x)\\n' "$(cat "$here/link")" >&2
      exit 0
      ;;
    -D)
      [ ! -e "$here/devices" ] || . "$here/devices"
      printf '1.eth0 [Up, Running, Connected]\\n2.lo [Up, Running, Loopback]\\n'
      exit 0
      ;;
    -d)
      echo "$*" >>"$here/checks"
      [ ! -e "$here/check" ] || . "$here/check"
      exit 0
      ;;
  esac
done
echo "$*" >>"$here/starts"
if [ -e "$here/fail" ]; then
  echo "tcpdump: $(cat "$here/fail")" >&2
  exit 1
fi
# A global header and one record of one byte.
zero='\\0\\0\\0\\0'
put() { printf "\\xd4\\xc3\\xb2\\xa1\\x02\\0\\x04\\0$zero$zero\\0\\0\\x04\\0\\x01\\0\\0\\0$zero$zero\\x01\\0\\0\\0\\x01\\0\\0\\0x" >"$1"; }
if [ "$last" = 0 ]; then put "$base"; else
  for ((i = 0; i <= last; i++)); do put "$base$(printf "%0\${#last}d" "$i")"; done
fi
count() { echo "7 packets captured, 7 packets received by filter, 0 packets dropped by kernel" >&2; }
trap 'count; exit 0' TERM
trap count USR1
while [ -e "$here/mute" ]; do sleep 0.01; done
echo "tcpdump: listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 262144 bytes" >&2
if [ -n "$packets" ]; then
  echo "$packets packets captured" >&2
  exit 0
fi
# It does not outlive the test.
while [ -e "/proc/$PPID" ]; do sleep 0.02; done
`;

export interface WorldOptions {
  /** A directory that an earlier world has left ({@linkcode World.leave}). */
  readonly dir?: string;
  /** Settings by their environment variables. */
  readonly env?: Record<string, string>;
  /** @default one that is never full */
  readonly disk?: Pick<DiskFloor, "paused" | "freeBytes" | "look">;
  /** Whether pods that the test has not handed over are proven to be gone. @default true */
  readonly proves?: boolean;
  /** Waits that differ from the controller's. @default tick 50, block 20 */
  readonly timing?: Partial<CaptureTiming>;
  /** Called before the first list is complete. */
  readonly before?: (world: World) => void;
}

export class World implements AsyncDisposable {
  /** `<UID> <reason>: <note>`. */
  readonly events: string[] = [];
  /** `<reason> <hash of the request>`, with ` first` where it is the first answer to that request. */
  readonly answers: string[] = [];
  /** `<message> <fields as JSON>`. */
  readonly lines: string[] = [];
  readonly metrics = new Metrics();
  readonly sandboxes = new Map<string, Sandbox>();
  readonly abort = new AbortController();
  /** The answer that `refresh` of the sandboxes waits for. */
  looking: Promise<void> = Promise.resolve();
  /** Returns the API's status of a pod; by default there is no pod. */
  statusOf: (pod: Pod) => Promise<PodStatus | undefined> = () => Promise.resolve(undefined);
  /** Names of the pods that the API was asked for. */
  readonly looks: string[] = [];
  urgent = false;
  directoryLost = false;
  readonly captures: Captures;
  #run: Promise<void> | undefined;
  #stopped = false;
  /** Keys of the pods that were handed over. */
  readonly #told = new Set<string>();

  private constructor(readonly dir: string, readonly directory: CaptureDir, options: WorldOptions) {
    const { env = {} } = options;
    const values: Record<string, string> = {
      NODE_NAME: "node-1",
      CAPTURE_DIR: directory.path,
      TCPDUMP: join(dir, "tcpdump"),
      ALLOW_HOST_NETWORK_PODS: "true",
      // All pods are of one namespace: it may have what the node has.
      MAX_CAPTURES_PER_NAMESPACE: "10000",
      DISK_BUDGET_MB_PER_NAMESPACE: "100000000",
      ...env,
    };
    this.captures = new Captures({
      settings: readSettings({ env: (name) => values[name], flags: {} }),
      directory,
      metrics: this.metrics,
      log: this.#log(),
      record: (pod, event, request, isAnswer) => {
        this.events.push(`${pod.uid} ${event.reason}: ${event.note}`);
        this.answers.push(`${event.reason} ${request}${isAnswer ? " first" : ""}`);
      },
      sandboxes: {
        get: (owner) => {
          const sandbox = this.sandboxes.get(owner.uid);
          return sandbox && isOf(sandbox, owner) ? sandbox : undefined;
        },
        refresh: () => this.looking,
        setUrgent: (on) => this.urgent = on,
      },
      statusOf: (pod) => {
        this.looks.push(pod.name);
        return this.statusOf(pod);
      },
      timing: { ...CAPTURE_TIMING, tick: 50, block: 20, ...options.timing },
      signal: this.abort.signal,
      onDirectoryLost: () => this.directoryLost = true,
      disk: (options.disk ?? { paused: undefined, freeBytes: 1, look: () => Promise.resolve(false) }) as DiskFloor,
    });
  }

  /** Resolves when the first list is complete. */
  static async start(options: WorldOptions = {}): Promise<World> {
    const dir = options.dir ?? await Deno.realPath(await Deno.makeTempDir({ prefix: "pc-world-" }));
    await Deno.writeTextFile(join(dir, "tcpdump"), TCPDUMP);
    await Deno.chmod(join(dir, "tcpdump"), 0o755);
    const path = join(dir, "captures");
    const directory = await CaptureDir.take({ path, annotationKey: KEY, release: "test", holder: "test" });
    const world = new World(dir, directory, options);
    await world.captures.adopt();
    options.before?.(world);
    world.captures.podsSynced();
    // The pod watch proves this by asking: of all that is kept, only the pods that were handed over exist.
    for (const pod of options.proves === false ? [] : [...world.captures.kept()]) {
      if (!world.#told.has(podKey(pod))) world.captures.podDeleted(pod);
    }
    world.#run = world.captures.run(world.abort.signal);
    return world;
  }

  /** Returns a pod object: "" is the main annotation, others are sub-keys. */
  pod(name: string, annotations: Record<string, string>, change: Partial<Pod> = {}): Pod {
    const uid = change.uid ?? `uid-${name}`;
    const keys = Object.entries(annotations).map(([sub, value]) => [sub === "" ? KEY : `${KEY}/${sub}`, value]);
    return {
      namespace: "default",
      name,
      uid,
      resourceVersion: "1",
      annotations: Object.fromEntries(keys),
      terminating: false,
      ...change,
    };
  }

  /** Hands over a pod object with these annotations. */
  annotate(name: string, annotations: Record<string, string>, change: Partial<Pod> = {}): void {
    const pod = this.pod(name, annotations, change);
    this.#told.add(podKey(pod));
    this.captures.podUpdated(pod);
  }

  gone(name: string, uid = `uid-${name}`): void {
    this.captures.podDeleted(this.pod(name, {}, { uid }));
  }

  /** Gives the pod a (further) sandbox, in the netns of the test. */
  sandbox(name: string, id = "s1", uid = `uid-${name}`, namespace = "default"): void {
    const owner = { namespace, name, uid };
    this.sandboxes.set(uid, { id, owner, createdAt: 1n, hostNetwork: true, netnsPath: undefined });
    this.captures.sandboxChanged(owner);
  }

  noSandbox(name: string, uid = `uid-${name}`, namespace = "default"): void {
    this.sandboxes.delete(uid);
    this.captures.sandboxChanged({ namespace, name, uid });
  }

  folder(name: string): string {
    return join(this.directory.path, "default", name);
  }

  async manifest(name: string): Promise<Manifest | undefined> {
    const text = await Deno.readTextFile(join(this.folder(name), "capture.json")).catch(() => undefined);
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** Returns the names of a pod's capture files. */
  files(name: string): string[] {
    try {
      return Array.from(Deno.readDirSync(this.folder(name)), (entry) => entry.name).filter((n) => n.includes(".pcap"))
        .sort();
    } catch {
      return [];
    }
  }

  /** Returns the requests without a folder: `<pod>:<state>`. */
  async listed(): Promise<string[]> {
    const text = await Deno.readTextFile(join(this.directory.path, ".not-capturing.json")).catch(() => "[]");
    return JSON.parse(text).map(({ pod, state }: { pod: string; state: string }) => `${pod}:${state}`).sort();
  }

  /** Waits until the manifest of a pod, or the report if it has none, has this state. */
  async inState(name: string, state: string, timeoutMs = 20_000): Promise<void> {
    await waitFor(`state ${state} of ${name}`, async () => {
      const manifest = await this.manifest(name);
      return manifest ? manifest.state === state : (await this.listed()).includes(`${name}:${state}`);
    }, { timeoutMs, everyMs: 5 });
  }

  /** Waits until the tcpdump of the pod's present run listens. */
  async capturing(name: string, runs = 1): Promise<void> {
    await this.told(new RegExp(`^uid-${name}\\S* Capture(Started|Restarted)`), runs);
    await this.inState(name, "capturing");
  }

  /** Waits until an Event has been recorded. @returns it. */
  async told(pattern: RegExp, times = 1): Promise<string> {
    return await waitFor(`Event ${pattern}`, () => this.events.filter((event) => pattern.test(event))[times - 1], {
      timeoutMs: 20_000,
      everyMs: 5,
    });
  }

  /** Waits until the loop has ticked so often. */
  async turns(count: number): Promise<void> {
    for (let turn = 0; turn < count; turn++) {
      const { lastTurn } = this.captures;
      await waitFor("another turn", () => this.captures.lastTurn > lastTurn, { everyMs: 5 });
    }
  }

  /** Waits until the pod has no folder. */
  async clean(name: string): Promise<void> {
    await waitFor(`no folder of ${name}`, () => this.files(name).length === 0 && !exists(this.folder(name)), {
      timeoutMs: 20_000,
      everyMs: 5,
    });
  }

  /** Steers the script, see there; undefined removes what steers it. */
  steer(what: "fail" | "mute" | "check" | "devices" | "link", text: string | undefined): void {
    if (text === undefined) Deno.removeSync(join(this.dir, what));
    else Deno.writeTextFileSync(join(this.dir, what), text);
  }

  /** Returns how often the script was called to check a filter, or to capture. */
  calls(what: "checks" | "starts"): number {
    try {
      return Deno.readTextFileSync(join(this.dir, what)).split("\n").length - 1;
    } catch {
      return 0;
    }
  }

  /** Returns the process ids of the scripts that capture; their subshells look the same, but are no children of ours. */
  processes(): number[] {
    return Array.from(Deno.readDirSync("/proc"), ({ name }) => Number(name)).filter((pid) => {
      try {
        return pid > 0 && Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes(`-w\0${this.directory.path}/`) &&
          Deno.readTextFileSync(`/proc/${pid}/status`).includes(`\nPPid:\t${Deno.pid}\n`);
      } catch {
        return false;
      }
    });
  }

  /** Stops the captures as the controller does on SIGTERM. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.abort.abort();
    await this.captures.stop();
    await this.#run;
  }

  /** Stops, and leaves the directory to another world. @returns its `dir`. */
  async leave(): Promise<string> {
    await this.stop();
    this.directory[Symbol.dispose]();
    return this.dir;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave().catch(() => {}); // it was left already
    for (const pid of this.processes()) Deno.kill(pid, "SIGKILL");
    await Deno.remove(this.dir, { recursive: true }).catch(() => {}); // another world has removed it
  }

  #log(): Log {
    const write = (message: string, fields: Record<string, unknown> = {}) => {
      const { error, ...rest } = fields;
      const said = error instanceof Error ? { error: error.message } : error === undefined ? {} : { error };
      this.lines.push(`${message} ${JSON.stringify({ ...rest, ...said })}`);
    };
    return { debug: write, info: write, warn: write, error: write };
  }
}

/** Compares as the index of the runtime's sandboxes does. */
function isOf({ owner }: Sandbox, { namespace, name }: SandboxOwner): boolean {
  return owner.namespace === namespace && owner.name === name;
}

export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
