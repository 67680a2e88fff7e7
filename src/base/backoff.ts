/** Waits after failures. */

/** The one back-off: the first wait, doubled with each further failure, up to the longest. */
export interface BackoffSteps {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns how many milliseconds to wait after so many failures in a row: between half and all of the step ("equal
 * jitter"). So work that failed together does not come back together, and none waits for longer than `mostMs`.
 *
 * @param failures counted from 1.
 * @param random for tests, and `() => 1` where nobody else fails at the same time.
 */
export function backoffMs(failures: number, { firstMs, mostMs }: BackoffSteps, random = Math.random): number {
  // 2 ** 1024 is Infinity, which is no failure here: the smaller one counts.
  return Math.min(firstMs * 2 ** (failures - 1), mostMs) * (0.5 + random() / 2);
}

/** Time of work that is a good start: what fails after it is tried again at once. */
const HEALTHY_MS = 10_000;

/** Work that is tried again after each failure in one place: later and later, as long as it fails there. */
export class Backoff {
  readonly #again: () => void;
  readonly #steps: BackoffSteps;
  #last:
    | { readonly place: string | undefined; readonly failures: number; readonly until: number; readonly why: string }
    | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param again is called when it may be tried again. */
  constructor(again: () => void, steps: BackoffSteps) {
    this.#again = again;
    this.#steps = steps;
  }

  /** Returns why it must not be tried in this place yet; undefined: it may. A failure in another place does not count. */
  reason(place: string | undefined): string | undefined {
    const last = this.#last;
    return last && last.place === place && last.until > performance.now() ? last.why : undefined;
  }

  /** Enters a failure. @param workedMs for how long it had worked. @returns in how many milliseconds it may be tried again. */
  failed(place: string | undefined, why: string, workedMs: number): number {
    const before = this.#last?.place === place && workedMs < HEALTHY_MS ? this.#last?.failures ?? 0 : 0;
    this.clear();
    const ms = workedMs >= HEALTHY_MS ? 0 : backoffMs(before + 1, this.#steps);
    this.#last = { place, failures: before + 1, until: performance.now() + ms, why };
    this.#timer = setTimeout(this.#again, ms + 1);
    return ms;
  }

  /** Forgets all failures. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#last = undefined;
  }
}
