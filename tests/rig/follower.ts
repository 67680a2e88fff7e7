/** A PodWatch under test, with everything that it says written down in order. */
import type { Log, LogFields } from "../../src/log.ts";
import { Metrics } from "../../src/metrics.ts";
import type { KeptPod } from "../../src/pods/absence.ts";
import type { ApiClient } from "../../src/pods/api.ts";
import type { Pod } from "../../src/pods/pod.ts";
import { PodWatch, type WatchTiming } from "../../src/pods/watch.ts";
import { waitFor } from "../support/wait.ts";

export const NODE = "node-1";
export const KEY = "tcpdump.antrea.io";

/** So short that a fault and its end fit into a test; what they mean stays. */
export const QUICK: Partial<WatchTiming> = {
  answer: 1000,
  idle: 1000,
  initialIdle: 1000,
  tick: 50,
  backoff: 20,
  backoffMost: 200,
};

/** Takes down what is logged. */
export class Recorder implements Log {
  readonly lines: { readonly level: string; readonly message: string; readonly fields: LogFields }[] = [];
  readonly debug = this.#at("debug");
  readonly info = this.#at("info");
  readonly warn = this.#at("warn");
  readonly error = this.#at("error");

  #at(level: string) {
    return (message: string, fields: LogFields = {}) => void this.lines.push({ level, message, fields });
  }
}

export class Follower implements AsyncDisposable {
  /** `pod web-0 5`, `gone web-0`, `synced`. */
  readonly calls: string[] = [];
  readonly log = new Recorder();
  readonly metrics = new Metrics();
  readonly watch: PodWatch;
  /** What is kept, by name: as captures do, of every pod that was annotated when it was reported. */
  readonly kept: Map<string, KeptPod>;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;

  /**
   * @param options.onPod called as well, after it has been written down.
   * @param options.folders kept from the beginning.
   */
  constructor(
    api: ApiClient,
    options: {
      timing?: Partial<WatchTiming>;
      random?: () => number;
      onPod?: (pod: Pod) => void;
      folders?: readonly KeptPod[];
    } = {},
  ) {
    const { onPod, folders = [], ...rest } = options;
    this.kept = new Map(folders.map((pod) => [pod.name, pod]));
    this.watch = new PodWatch({
      api,
      nodeName: NODE,
      annotationKey: KEY,
      onPod: (pod) => {
        this.calls.push(`pod ${pod.name} ${pod.annotations[KEY] ?? "-"}${pod.terminating ? " terminating" : ""}`);
        if (pod.annotations[KEY] === undefined) this.kept.delete(pod.name);
        else this.kept.set(pod.name, pod);
        onPod?.(pod);
      },
      kept: () => this.kept.values(),
      onGone: (pod) => {
        this.calls.push(`gone ${pod.name}`);
        this.kept.delete(pod.name);
      },
      onSynced: () => this.calls.push("synced"),
      log: this.log,
      metrics: this.metrics,
      timing: QUICK,
      ...rest,
    });
    this.#done = this.watch.run(this.#abort.signal);
  }

  async until(what: string, look: () => unknown, timeoutMs = 15_000): Promise<void> {
    try {
      await waitFor(what, () => Boolean(look()), { everyMs: 5, timeoutMs });
    } catch (error) {
      const story = { calls: this.calls.slice(-20), log: this.log.lines.slice(-10) };
      throw new Error(`${(error as Error).message}\n${JSON.stringify(story, null, 1)}`);
    }
  }

  async called(call: string, times = 1): Promise<void> {
    await this.until(`"${call}"`, () => this.calls.filter((one) => one === call).length >= times);
  }

  /** How many attempts have ended for that reason. */
  ends(reason: string): number {
    return this.log.lines.filter(({ fields }) => fields.reason === reason).length;
  }

  /** Stops the watch; gives how many milliseconds that took. */
  async stop(): Promise<number> {
    const begun = performance.now();
    this.#abort.abort();
    await this.#done;
    return performance.now() - begun;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
