/** Many pods on one node, and what the controller's process takes for them. */
import { waitFor } from "../support/wait.ts";
import { type Controller, KEY, type NodeRig, type TestPod } from "../rig/node.ts";

/** So many sandboxes are made or ended at once: more only makes a small machine wait. */
const AT_ONCE = 8;

/** For more captures than the limits allow by default, on a disk that may be small; V8 as in the image (tools/image-program). */
export const ROOMY = {
  MAX_CAPTURES: "1000",
  DISK_BUDGET_MB: "1000000",
  MAX_FILE_SIZE_MB: "1",
  DENO_V8_FLAGS: "--max-semi-space-size=1,--optimize-for-size",
};

/** Does it for each, several at once. */
export async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const left = [...items];
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  }));
}

export async function startCrowd(node: NodeRig, count: number, annotation?: string): Promise<TestPod[]> {
  const pods: TestPod[] = [];
  const annotations: Record<string, string> = annotation === undefined ? {} : { [KEY]: annotation };
  await each(Array.from({ length: count }, (_, i) => `crowd-${i}`), async (name) => {
    pods.push(await node.startPod(name, { annotations }));
  });
  return pods;
}

/** Waits until just these pods are captured, each once and with the number of files that it wants. */
export async function allCaptured(
  node: NodeRig,
  wanted: ReadonlyMap<TestPod, string>,
  timeoutMs: number,
): Promise<void> {
  const want = [...wanted].map(([pod, files]) => `${node.folderOf(pod)} -W ${files}`).sort().join("\n");
  let have = "";
  await waitFor(`${wanted.size} captures`, async () => {
    const processes = await node.processes();
    have = processes.map(({ folder, argv }) => `${folder} -W ${argv[argv.indexOf("-W") + 1]}`).sort().join("\n");
    return have === want;
  }, { timeoutMs, everyMs: 200 }).catch((error: Error) => {
    const lacks = want.split("\n").filter((line) => !have.split("\n").includes(line));
    const more = have.split("\n").filter((line) => !want.split("\n").includes(line));
    throw new Error(`${error.message}; not running: ${lacks.join(", ")}; running: ${more.join(", ")}`);
  });
  await each([...wanted.keys()], (pod) => node.capturing(pod, timeoutMs));
}

/** What a process takes. */
export interface Footprint {
  readonly rssMiB: number;
  readonly fds: number;
  readonly threads: number;
}

export async function footprint({ pid }: Controller): Promise<Footprint> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return footprintOf(status, Array.from(Deno.readDirSync(`/proc/${pid}/fd`)).length);
}

/** @param status what /proc/PID/status says. @param fds how many files it has open. */
export function footprintOf(status: string, fds: number): Footprint {
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+([0-9]+)`, "m").exec(status)?.[1]);
  return { rssMiB: Math.round(field("VmRSS") / 1024), fds, threads: field("Threads") };
}

export function inWords({ rssMiB, fds, threads }: Footprint): string {
  return `${rssMiB} MiB, ${fds} fds, ${threads} threads`;
}
