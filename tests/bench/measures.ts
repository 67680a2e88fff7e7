/** What a process or a group of them takes. */
import { join } from "@std/path";

const CGROUPS = "/sys/fs/cgroup";

export interface Memory {
  readonly rssMiB: number;
  readonly anonMiB: number;
}

export async function memoryOf(pid: number): Promise<Memory> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const mib = (name: string) => Number(new RegExp(`^${name}:\\s+([0-9]+)`, "m").exec(status)?.[1]) / 1024;
  return { rssMiB: mib("VmRSS"), anonMiB: mib("RssAnon") };
}

/** Proportional share of memory, in MiB. */
export async function pssOf(pid: number): Promise<number> {
  const rollup = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  return Number(/^Pss:\s+([0-9]+)/m.exec(rollup)?.[1]) / 1024;
}

/**
 * Seconds of CPU that the process's threads have taken so far, to the nanosecond. /proc/PID/stat counts ticks of 10 ms, of which
 * short turns take none or a whole one.
 */
export async function cpuSeconds(pid: number): Promise<number> {
  let nanoseconds = 0;
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const stat = await Deno.readTextFile(`/proc/${pid}/task/${name}/schedstat`);
    nanoseconds += Number(stat.split(" ")[0]);
  }
  return nanoseconds / 1e9;
}

/** A cgroup for what is started by its `wrap`, of whichever version the machine has. */
export class Cgroup implements Disposable {
  private constructor(readonly path: string, readonly isV1: boolean) {}

  /** @param name tells several of one controller apart. */
  static async create(controller: "memory" | "cpu", name = ""): Promise<Cgroup> {
    const isV1 = await Deno.stat(join(CGROUPS, controller)).then(() => true, () => false);
    if (!isV1) await Deno.writeTextFile(join(CGROUPS, "cgroup.subtree_control"), `+${controller}`);
    const path = join(CGROUPS, isV1 ? controller : "", `packet-capture-bench-${controller}${name}-${Deno.pid}`);
    await Deno.mkdir(path);
    return new Cgroup(path, isV1);
  }

  /** Words before a command that put it into the group. */
  get wrap(): string[] {
    return ["sh", "-c", `echo $$ > "$0" && exec "$@"`, join(this.path, "cgroup.procs")];
  }

  /** A limit as Kubernetes sets it. @param cores undefined: none. */
  async limitCpu(cores: number | undefined): Promise<void> {
    const quota = cores === undefined ? undefined : Math.round(cores * 100_000);
    if (this.isV1) await Deno.writeTextFile(join(this.path, "cpu.cfs_quota_us"), String(quota ?? -1));
    else await Deno.writeTextFile(join(this.path, "cpu.max"), `${quota ?? "max"} 100000`);
  }

  /** As the kubelet counts it: without file cache that can be dropped at once. */
  async workingSetMiB(): Promise<number> {
    const usage = await Deno.readTextFile(join(this.path, this.isV1 ? "memory.usage_in_bytes" : "memory.current"));
    const stat = await Deno.readTextFile(join(this.path, "memory.stat"));
    const inactive = new RegExp(`^${this.isV1 ? "total_" : ""}inactive_file ([0-9]+)`, "m").exec(stat)?.[1];
    return (Number(usage) - Number(inactive)) / 2 ** 20;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path);
  }
}
