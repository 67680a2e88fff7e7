/** The times at which a pod without a sandbox is looked at in the API, and what was found. */
import type { PodStatus } from "../pods/status.ts";
import { backoffMs } from "../base/backoff.ts";
import type { CaptureTiming } from "../timing.ts";

export class PodLook {
  readonly #timing: CaptureTiming["look"];
  /** The last status that was found; undefined: none yet, or none after the pod had a sandbox. */
  found: PodStatus | undefined;
  /** Set when a failed look was logged, until a look succeeds. */
  isFailureLogged = false;
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

  /** Notes that the pod has no sandbox. */
  lacksSandbox(): void {
    this.#due ??= performance.now() + this.#timing.first;
  }

  /** Notes that the pod has a sandbox. */
  clear(): void {
    this.#due = undefined;
    this.#looks = 0;
    this.found = undefined;
  }

  /** Brings the next look forward for a new request, because what was found may be old. */
  soon(): void {
    if (this.#due === undefined || this.#due === Infinity) return;
    this.#due = Math.min(this.#due, Math.max(performance.now(), this.#lookedAt + this.#timing.first));
  }

  /** Notes that a look begins; the wait for the next one is longer each time. */
  begin(): void {
    const { again, most } = this.#timing;
    this.#lookedAt = performance.now();
    this.#due = this.#lookedAt + backoffMs(++this.#looks, { firstMs: again, mostMs: most });
  }

  /** Ends the looks, because the pod is another node's. */
  end(): void {
    this.#due = Infinity;
  }
}
