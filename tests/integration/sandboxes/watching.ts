/** A running Sandboxes with its log and its changes, for tests. */
import type { SandboxOwner } from "../../../src/sandboxes/sandbox.ts";
import { Sandboxes, type SandboxesOptions } from "../../../src/sandboxes/sandboxes.ts";
import { waitFor } from "../../support/wait.ts";

export interface Change {
  readonly owner: SandboxOwner;
  /** The sandbox's id at that moment; undefined: none. */
  readonly id: string | undefined;
  /** performance.now() */
  readonly at: number;
}

export class Watching implements AsyncDisposable {
  readonly sandboxes: Sandboxes;
  readonly changes: Change[] = [];
  /** `warn the sentence`, one for each line of the log. */
  readonly lines: string[] = [];
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: Omit<SandboxesOptions, "onChange" | "log">) {
    const line = (level: string) => (message: string) => void this.lines.push(`${level} ${message}`);
    this.sandboxes = new Sandboxes({
      ...options,
      onChange: (owner) => this.changes.push({ owner, id: this.sandboxes.get(owner)?.id, at: performance.now() }),
      log: { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") },
    });
    this.#running = this.sandboxes.run(this.#stop.signal);
  }

  /** Waits until the pod has this sandbox (undefined: none) and gives when that became so. */
  async has(pod: SandboxOwner, id: string | undefined, timeoutMs = 5_000): Promise<number> {
    await waitFor(`sandbox ${id} of pod ${pod.uid}`, () => this.sandboxes.get(pod)?.id === id, {
      timeoutMs,
      everyMs: 1,
    });
    return this.changes.findLast(({ owner }) => owner.uid === pod.uid)?.at ?? 0;
  }

  /** Waits for a line of the log. */
  async says(pattern: RegExp, timeoutMs = 5_000): Promise<string> {
    return await waitFor(`a line like ${pattern}`, () => this.lines.find((line) => pattern.test(line)), {
      timeoutMs,
      everyMs: 5,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}
