/**
 * Kubernetes and containerd, built from source out of the Go module proxy (a few minutes, once) and kept in the cache.
 * Go newer than the one installed is fetched by Go itself (GOTOOLCHAIN=auto).
 */
import { dirname, join } from "node:path";
import { cacheDir, CONTAINERD_VERSION, KUBERNETES_VERSION, RUNC_VERSION } from "./config.ts";
import { CommandError } from "./run.ts";
import { say, ticking } from "./say.ts";

const KUBE_SOURCE = join(import.meta.dirname!, "kube");

export interface Binaries {
  /** etcd, apiserver, … in one: its first argument names the component. */
  readonly kube: string;
  /** Folder with containerd, containerd-shim-runc-v2 and ctr. */
  readonly containerd: string;
  /** Folder with runc. */
  readonly runc: string;
}

/** All that a cluster runs, built if this is the first time. */
export async function binaries(): Promise<Binaries> {
  return { kube: await kubeBinary(), containerd: await containerdFolder(), runc: await runcFolder() };
}

/** Path of the all-in-one Kubernetes program. */
export async function kubeBinary(): Promise<string> {
  const folder = await cached(
    `kubernetes-${KUBERNETES_VERSION}`,
    "Kubernetes (6 min on 2 cores)",
    async (out, count) => {
      const version = [
        `-X k8s.io/component-base/version.gitVersion=v${KUBERNETES_VERSION}`,
        `-X k8s.io/component-base/version.gitMajor=${KUBERNETES_VERSION.split(".")[0]}`,
        `-X k8s.io/component-base/version.gitMinor=${KUBERNETES_VERSION.split(".")[1]}`,
      ];
      await go(
        ["build", "-v", "-o", join(out, "kube"), "-ldflags", `-s -w ${version.join(" ")}`, "."],
        KUBE_SOURCE,
        count,
      );
    },
  );
  return join(folder, "kube");
}

/** Path of the folder with containerd, its shim and ctr. */
export function containerdFolder(): Promise<string> {
  return cached(`containerd-${CONTAINERD_VERSION}`, "containerd (1 min)", async (out, count) => {
    const commands = ["containerd", "ctr", "containerd-shim-runc-v2"];
    const packages = commands.map((c) => `github.com/containerd/containerd/v2/cmd/${c}@v${CONTAINERD_VERSION}`);
    await go(["install", "-v", "-ldflags", "-s -w", "-tags", "no_btrfs no_devmapper no_zfs", ...packages], out, count, {
      GOBIN: out,
    });
  });
}

/**
 * Path of the folder with runc: Debian's (1.1) is too old for pods with user namespaces of their own. It is partly C, so that this
 * needs gcc, and libseccomp for the chart's seccomp profile.
 */
export function runcFolder(): Promise<string> {
  return cached(`runc-${RUNC_VERSION}`, "runc (1 min)", async (out, count) => {
    const module = `github.com/opencontainers/runc@v${RUNC_VERSION}`;
    const env = { GOBIN: out, CGO_ENABLED: "1" };
    await go(["install", "-v", "-ldflags", "-s -w", "-tags", "seccomp", module], out, count, env);
  });
}

/**
 * The folder `name` of the cache, filled by `build` if it is not there. It appears by one rename, when it is whole; a lock lets
 * several builds at once wait for the first.
 */
export async function cached(
  name: string,
  what: string,
  build: (out: string, count: (line: string) => void) => Promise<void>,
): Promise<string> {
  const folder = join(cacheDir(), name);
  if (await exists(folder)) return folder;
  await Deno.mkdir(dirname(folder), { recursive: true });
  using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await exists(folder)) return folder;
  say(`building ${what} into ${folder}`);
  const out = `${folder}.part`;
  await Deno.remove(out, { recursive: true }).catch(() => {});
  await Deno.mkdir(out);
  let lines = 0, last = "";
  {
    using _ticker = ticking((elapsed) => `building ${what}: ${elapsed}, ${lines} steps, now ${last || "downloading"}`);
    await build(out, (line) => (lines++, last = line.trim()));
  }
  await Deno.rename(out, folder);
  return folder;
}

/** Runs go with its progress (`-v`, downloads) counted line by line. Deadline 60 min: slow machines exist, endless ones do not. */
export async function go(args: string[], cwd: string, count: (line: string) => void, env: Record<string, string> = {}) {
  const auto = { CGO_ENABLED: "0", GOTOOLCHAIN: "auto", GOFLAGS: "-buildvcs=false", GOWORK: "off", ...env };
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command("go", {
      args,
      cwd,
      env: auto,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      signal: AbortSignal.timeout(3_600_000),
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new CommandError("Cannot run go: install Go 1.21 or later");
    throw error;
  }
  const tail: string[] = [];
  let rest = "";
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      count(line);
      tail.push(line);
      if (tail.length > 20) tail.shift();
    }
  }
  const { code } = await child.status;
  if (code !== 0) throw new CommandError(`go ${args[0]} exited with ${code}:\n${[...tail, rest].join("\n")}`);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
