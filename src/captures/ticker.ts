/** Turns once a second, and begins what is to be done then: each piece of work unless it is still under way. */
import type { Log, LogFields } from "../log.ts";

export interface TickerOptions {
  /** Milliseconds from one turn to the next. */
  readonly everyMs: number;
  readonly log: Log;
  /** Whether the controller is being stopped: what fails then is no news. */
  readonly stopping: () => boolean;
}

export class Ticker {
  readonly #options: TickerOptions;
  readonly #underWay = new WeakMap<object, Set<string>>();
  #lastTurn = performance.now();

  constructor(options: TickerOptions) {
    this.#options = options;
  }

  /** performance.now() of the last turn. */
  get lastTurn(): number {
    return this.#lastTurn;
  }

  /** Calls `tick` every second, until the signal is aborted. */
  async run(tick: () => void, signal: AbortSignal): Promise<void> {
    let wake = () => {};
    const onAbort = () => wake();
    signal.addEventListener("abort", onAbort);
    try {
      let next = performance.now();
      while (!signal.aborted) {
        this.#lastTurn = performance.now();
        tick();
        next = Math.max(next + this.#options.everyMs, performance.now());
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, Math.max(0, next - performance.now()));
        wake = resolve;
        if (!signal.aborted) await promise;
        clearTimeout(timer);
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Begins work, unless the same is still under way for this one. It is not waited for: a disk may hang, and the others are looked
   * after all the same.
   */
  begin(whose: object, what: string, work: () => Promise<void>, fields: LogFields = {}): void {
    const underWay = this.#underWay.get(whose) ?? new Set();
    if (underWay.has(what)) return;
    this.#underWay.set(whose, underWay.add(what));
    work().catch((error) => {
      if (!this.#options.stopping()) this.#options.log.warn(`${what} not seen to`, { ...fields, error });
    }).finally(() => underWay.delete(what));
  }
}
