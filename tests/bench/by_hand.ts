/** A tcpdump that the benchmark starts itself, next to the controller's. */
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
