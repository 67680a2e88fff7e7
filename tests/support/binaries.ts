/**
 * Kubernetes and containerd, built from source out of the Go module proxy (a few minutes, once) and kept in the cache.
 * Go newer than the one installed is fetched by Go itself (GOTOOLCHAIN=auto).
 */
import { join } from "node:path";
import { cached } from "./cache.ts";
import { CommandError } from "./run.ts";

export const KUBERNETES_VERSION = "1.36.3";
export const CONTAINERD_VERSION = "2.3.5";
export const RUNC_VERSION = "1.3.4";

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
