/** When a pod without a sandbox is looked at in the API, and what was found. */
import type { PodStatus } from "../pods/status.ts";
import { backoffMs } from "../base/backoff.ts";
import type { CaptureTiming } from "../timing.ts";

export class PodLook {
  readonly #timing: CaptureTiming["look"];
  /** What was found last; undefined: nothing yet, or there has been a sandbox since. */
  found: PodStatus | undefined;
  /** Whether the log has told that it could not be looked at. */
  saidFailed = false;
  /** performance.now() of the next look; undefined while there is a sandbox. */
  #due: number | undefined;
  #lookedAt = -Infinity;
  #looks = 0;

  constructor(timing: CaptureTiming["look"]) {
    this.#timing = timing;
  }

  get isDue(): boolean {
    return this.#due !== undefined && performance.now() >= this.#due && !this.found?.hasFinished;
  }

  /** The pod has no sandbox. */
  lacksSandbox(): void {
    this.#due ??= performance.now() + this.#timing.first;
  }

  /** The pod has a sandbox, or is another pod. */
  clear(): void {
    this.#due = undefined;
    this.#looks = 0;
    this.found = undefined;
  }

  /** Somebody asks anew: what was found may be old. */
  soon(): void {
    if (this.#due === undefined || this.#due === Infinity) return;
    this.#due = Math.min(this.#due, Math.max(performance.now(), this.#lookedAt + this.#timing.first));
  }

  /** A look begins: the next one comes later than the one before. */
  begin(): void {
    const { again, most } = this.#timing;
    this.#lookedAt = performance.now();
    this.#due = this.#lookedAt + backoffMs(++this.#looks, { firstMs: again, mostMs: most });
  }

  /** There is nothing to be looked at: the pod is another node's. */
  end(): void {
    this.#due = Infinity;
  }
}
