/** Work by key: serial for one key, parallel for different ones. Work on a key is repeated as long as it was added meanwhile. */
import { backoffMs } from "./backoff.ts";
import { settledWithin } from "./timeout.ts";

/** The back-off of a failing key. */
const RETRIES = { firstMs: 200, mostMs: 30_000 };

export class KeyedQueue {
  readonly #work: (key: string) => Promise<void>;
  readonly #onError: (key: string, error: unknown, retryInMs: number) => void;
  /** Keys at work; `again`: added since the work began. */
  readonly #running = new Map<string, { again: boolean }>();
  readonly #retries = new Map<string, { timer: ReturnType<typeof setTimeout> | undefined; failures: number }>();
  #idle: PromiseWithResolvers<void> | undefined;
  #closed = false;

  /**
   * @param work is called for one key at a time per key. If it rejects, the key is tried again after a back-off, or at once if it
   * was added meanwhile: what failed then may not be what is to be done now.
   * @param onError is called with each rejection.
   */
  constructor(
    work: (key: string) => Promise<void>,
    onError: (key: string, error: unknown, retryInMs: number) => void,
  ) {
    this.#work = work;
    this.#onError = onError;
  }

  /** Enqueues the key: it is worked on now, or once more after the present work on it. */
  add(key: string): void {
    if (this.#closed) return;
    const running = this.#running.get(key);
    if (running) {
      running.again = true;
      return;
    }
    const retry = this.#retries.get(key);
    if (retry) clearTimeout(retry.timer);
    void this.#run(key);
  }

  /** Resolves once nothing is at work, or after so many milliseconds. @returns whether nothing is. */
  async idle(ms: number): Promise<boolean> {
    const until = performance.now() + ms;
    while (this.#running.size > 0) {
      this.#idle ??= Promise.withResolvers();
      if (!await settledWithin(until - performance.now(), this.#idle.promise)) return false;
    }
    return true;
  }

  /** Begins nothing more, and forgets the retries that wait. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#retries.values()) clearTimeout(timer);
    this.#retries.clear();
  }

  async #run(key: string): Promise<void> {
    const state = { again: true };
    this.#running.set(key, state);
    let failed = false;
    while (state.again) {
      state.again = false;
      try {
        await this.#work(key);
        this.#retries.delete(key);
        failed = false;
      } catch (error) {
        const failures = (this.#retries.get(key)?.failures ?? 0) + 1;
        // Not twice in a row: work that fails and adds its own key each time must not spin.
        const atOnce = state.again && !failed;
        failed = true;
        const ms = atOnce ? 0 : backoffMs(failures, RETRIES);
        this.#onError(key, error, ms);
        const timer = atOnce || this.#closed ? undefined : setTimeout(() => this.add(key), ms);
        this.#retries.set(key, { failures, timer });
        if (!atOnce) break;
      }
    }
    this.#running.delete(key);
    if (this.#running.size === 0) {
      this.#idle?.resolve();
      this.#idle = undefined;
    }
  }
}
