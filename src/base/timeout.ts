/** Waits that end: after a time, when they are aborted, or both. No other file races a promise with a timer. */

/** `setTimeout` fires at once when it is given more than this (2^31 − 1 ms, 24.8 days). */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Waits for so long.
 *
 * @throws the signal's reason, as soon as it is aborted.
 */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await race(new Promise<void>(() => {}), signal, { ms, end: ({ resolve }) => resolve() });
}

/**
 * Waits for a promise until the signal is aborted.
 *
 * @throws the signal's reason then. The promise is abandoned, and may reject unseen.
 */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return await race(promise, signal);
}

/**
 * Waits for a promise, but no longer than this.
 *
 * @throws what `late` returns, after that time. The promise is abandoned, and may reject unseen.
 */
export async function deadline<T>(
  promise: Promise<T>,
  ms: number,
  late = () => new Error(`no answer within ${ms / 1000} s`),
): Promise<T> {
  return await race(promise, undefined, { ms, end: ({ reject }) => reject(late()) });
}

/**
 * Waits for a promise to settle, but no longer than this.
 *
 * @returns whether it has settled.
 * @throws the signal's reason if it is aborted before; nothing else.
 */
export async function settledWithin(ms: number, promise: Promise<unknown>, signal?: AbortSignal): Promise<boolean> {
  return await race(promise.then(() => true, () => true), signal, { ms, end: ({ resolve }) => resolve(false) });
}

/** A signal that is aborted after a time, or with one of others. It keeps its clock and its listeners until it is disposed of. */
export class Deadline extends AbortController implements Disposable {
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #outer: readonly AbortSignal[];

  /**
   * @param late returns the reason with which it is aborted after so many milliseconds.
   * @param outer signals with which it is aborted too, for their reason.
   */
  constructor(ms: number, late: () => unknown, ...outer: readonly (AbortSignal | undefined)[]) {
    super();
    this.#outer = outer.filter((signal) => signal !== undefined);
    this.#timer = setTimeout(() => this.abort(late()), timerMs(ms));
    for (const signal of this.#outer) {
      if (signal.aborted) this.abort(signal.reason);
      signal.addEventListener("abort", this.#onAbort);
    }
  }

  /** Ends the time-out: from now on only the other signals abort this one. */
  stopClock(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.stopClock();
    for (const signal of this.#outer) signal.removeEventListener("abort", this.#onAbort);
  }

  readonly #onAbort = ({ target }: Event) => this.abort((target as AbortSignal).reason);
}

async function race<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  timeout?: { readonly ms: number; readonly end: (cut: PromiseWithResolvers<T>) => void },
): Promise<T> {
  // Its rejection is nobody's once another has won, or when there is no race.
  promise.catch(() => {});
  signal?.throwIfAborted();
  const cut = Promise.withResolvers<T>();
  const onAbort = () => cut.reject(signal?.reason);
  const timer = timeout && setTimeout(() => timeout.end(cut), timerMs(timeout.ms));
  signal?.addEventListener("abort", onAbort);
  try {
    return await Promise.race([promise, cut.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function timerMs(ms: number): number {
  return Math.min(Math.max(0, ms), LONGEST_TIMER_MS);
}
