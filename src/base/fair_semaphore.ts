/** Turns that groups share: so many at a time, so many of them one group's, and the groups in rotation. */
export class FairSemaphore {
  readonly #atOnce: number;
  readonly #ofGroup: number;
  /** Callers that wait, by group; the group that had a turn last comes last. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** Turns that are taken, by group. */
  readonly #taken = new Map<string, number>();
  #free: number;

  constructor(atOnce: number, ofGroup: number) {
    this.#atOnce = atOnce;
    this.#ofGroup = ofGroup;
    this.#free = this.#atOnce;
  }

  /**
   * Waits for a turn.
   *
   * @returns what gives it back; further calls do nothing.
   * @throws the signal's reason if it is aborted before.
   */
  async take(group: string, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    const begun = Promise.withResolvers<void>();
    const begin = () => begun.resolve();
    const waiting = this.#waiting.get(group) ?? new Set();
    this.#waiting.set(group, waiting.add(begin));
    const onAbort = () => {
      // One whose turn has come meanwhile keeps it, and gives it back.
      if (!waiting.delete(begin)) return;
      if (waiting.size === 0) this.#waiting.delete(group);
      begun.reject(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort);
    this.#next();
    await begun.promise.finally(() => signal?.removeEventListener("abort", onAbort));
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      this.#free++;
      const others = this.#of(group) - 1;
      if (others > 0) this.#taken.set(group, others);
      else this.#taken.delete(group);
      this.#next();
    };
  }

  #of(group: string): number {
    return this.#taken.get(group) ?? 0;
  }

  #next(): void {
    // A group that is put last comes again in the same pass.
    for (const [group, waiting] of this.#waiting) {
      if (this.#free === 0) return;
      const [begin] = waiting;
      if (!begin || this.#of(group) >= this.#ofGroup) continue;
      waiting.delete(begin);
      this.#waiting.delete(group);
      if (waiting.size > 0) this.#waiting.set(group, waiting);
      this.#free--;
      this.#taken.set(group, this.#of(group) + 1);
      begin();
    }
  }
}
