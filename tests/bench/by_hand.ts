/** Captures to be compared: by a tcpdump that the benchmark starts itself, and by the controller. */
import { readAnnotations } from "../../src/spec/annotations.ts";
import type { CaptureRequest } from "../../src/spec/request.ts";
import { KEY, type NodeRig, type TestPod } from "../rig/node.ts";
import { type Cgroup, cpuSeconds } from "./measures.ts";
import { until } from "./stage.ts";

/** What tcpdump says of itself at its end. */
export interface Counters {
  /** Packets that it has written. */
  readonly captured: number;
  /** Packets that the kernel had for it, also those that it was too slow for. */
  readonly received: number;
  readonly dropped: number;
}

/** What a pod asks for by the annotation alone. */
export const REQUEST: CaptureRequest = (() => {
  const limits = { maxFiles: 5, maxFileSizeMB: 1, maxBufferMB: 4, maxDurationSeconds: 1 };
  const asked = readAnnotations({ [KEY]: "5" }, KEY, limits);
  if (asked.kind !== "valid") throw new Error("The annotation alone is no request");
  return asked.request;
})();

/** What the kernel holds is handed over within its second. */
const BLOCK_MS = 1100;

export class ByHand {
  readonly #child: Deno.ChildProcess;
  #said = "";
  readonly #reading: Promise<void>;

  private constructor(argv: readonly string[], group: Cgroup) {
    const [command, ...args] = [...group.wrap, ...argv];
    const child = new Deno.Command(command!, { args, stdin: "null", stdout: "null", stderr: "piped" }).spawn();
    this.#child = child;
    this.#reading = (async () => {
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) this.#said += text;
    })();
  }

  /** Returns once it listens. Each word of `argv` before tcpdump must exec the next. */
  static async start(argv: readonly string[], group: Cgroup): Promise<ByHand> {
    const process = new ByHand(argv, group);
    await until("tcpdump to listen", () => process.#said.includes("listening on"));
    return process;
  }

  /** Ends it once it has what was sent before the call. @returns its counters, and the CPU time that it took. */
  async stop(): Promise<Counters & { readonly cpuSeconds: number }> {
    await new Promise((resolve) => setTimeout(resolve, BLOCK_MS));
    const took = await cpuSeconds(this.#child.pid);
    this.#child.kill("SIGTERM");
    await this.#child.status;
    await this.#reading;
    const number = (what: string) => Number(new RegExp(`([0-9]+) packets? ${what}`).exec(this.#said)?.[1] ?? NaN);
    return {
      captured: number("captured"),
      received: number("received by filter"),
      dropped: number("dropped by kernel"),
      cpuSeconds: took,
    };
  }
}

/**
 * Has the controller capture the pods, as {@linkcode REQUEST} says, while `work` is done, and holds the files while they are judged.
 *
 * @param judge gets the counters of each pod's run, and what the work gave.
 */
export async function capturedMeanwhile<T, R>(
  node: NodeRig,
  pods: readonly TestPod[],
  work: () => Promise<T>,
  judge: (counters: readonly Counters[], worked: T) => R | Promise<R>,
): Promise<R> {
  const all = (work: (pod: TestPod) => Promise<unknown>) => Promise.all(pods.map(work));
  await all((pod) => node.annotate(pod, { "": String(REQUEST.files) }));
  await all((pod) => node.capturing(pod));
  const worked = await work();
  await all((pod) => node.annotate(pod, { hold: "true" }));
  await all((pod) => node.inState(pod, "held", 30_000));
  const counters = await Promise.all(
    pods.map(async (pod): Promise<Counters> => (await node.manifest(pod)).runs.at(-1)),
  );
  const judged = await judge(counters, worked);
  await all((pod) => node.annotate(pod, { "": null, hold: null }));
  await all((pod) => node.clean(pod));
  return judged;
}
