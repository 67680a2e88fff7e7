/** When what failed may be tried again: later and later, as long as it fails in the same sandbox. */
import { backoffMs } from "../base/backoff.ts";
import type { CaptureTiming } from "../timing.ts";

/** A tcpdump that listened this long was a good start: when it dies it is started again at once. */
const HEALTHY_MS = 10_000;

export class Backoff {
  readonly #again: () => void;
  readonly #timing: CaptureTiming["retry"];
  #last:
    | {
      readonly sandboxId: string | undefined;
      readonly failures: number;
      readonly until: number;
      readonly why: string;
    }
    | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param again is called when it may be tried again. */
  constructor(again: () => void, timing: CaptureTiming["retry"]) {
    this.#again = again;
    this.#timing = timing;
  }

  /** Why it may not be tried in this sandbox yet; undefined: it may. What went wrong in another one says nothing of this one. */
  reason(sandboxId: string | undefined): string | undefined {
    const last = this.#last;
    return last && last.sandboxId === sandboxId && last.until > performance.now() ? last.why : undefined;
  }

  /** It has failed. @param livedMs how long it had worked, from when it listened. @returns in how many milliseconds it may be tried again. */
  failed(sandboxId: string | undefined, why: string, livedMs: number): number {
    const before = this.#last?.sandboxId === sandboxId && livedMs < HEALTHY_MS ? this.#last?.failures ?? 0 : 0;
    this.clear();
    const { first, most } = this.#timing;
    const ms = livedMs >= HEALTHY_MS ? 0 : backoffMs(before + 1, { firstMs: first, mostMs: most });
    this.#last = { sandboxId, failures: before + 1, until: performance.now() + ms, why };
    this.#timer = setTimeout(this.#again, ms + 1);
    return ms;
  }

  /** All is forgotten. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#last = undefined;
  }
}
