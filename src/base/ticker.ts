/** Ticks at a fixed interval, and begins what is to be done then: each piece of work unless it is still under way. */

export interface TickerOptions {
  /** Milliseconds from one tick to the next. */
  readonly everyMs: number;
  /** Handles each failure. @param whose what was given to {@linkcode Ticker.begin}. */
  readonly onError: (whose: object, what: string, error: unknown) => void;
}

export class Ticker {
  readonly #options: TickerOptions;
  readonly #underWay = new WeakMap<object, Set<string>>();
  #lastTick = performance.now();

  constructor(options: TickerOptions) {
    this.#options = options;
  }

  /** performance.now() of the last tick. */
  get lastTick(): number {
    return this.#lastTick;
  }

  /** Calls `tick` at each interval, until the signal is aborted. */
  async run(tick: () => void, signal: AbortSignal): Promise<void> {
    let wake = () => {};
    const onAbort = () => wake();
    signal.addEventListener("abort", onAbort);
    try {
      let next = performance.now();
      while (!signal.aborted) {
        this.#lastTick = performance.now();
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

  /** Begins work, unless the same is still under way for this one. Nothing waits for it: a disk may hang, and the others go on. */
  begin(whose: object, what: string, work: () => Promise<void>): void {
    const underWay = this.#underWay.get(whose) ?? new Set();
    if (underWay.has(what)) return;
    this.#underWay.set(whose, underWay.add(what));
    work().catch((error) => this.#options.onError(whose, what, error)).finally(() => underWay.delete(what));
  }
}
