/** Work that many ask for, and that is of use only if it began after they asked. */
export class SharedNext<T = void> {
  readonly #work: () => Promise<T>;
  #last: Promise<unknown> = Promise.resolve();
  #next: Promise<T> | undefined;

  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  /**
   * Does the work once more after the run under way, which may have begun too early for the caller. All callers
   * meanwhile share it.
   */
  run(): Promise<T> {
    return this.#next ??= this.#last.then(() => {
      this.#next = undefined;
      const done = this.#work();
      this.#last = done.catch(() => {});
      return done;
    });
  }
}
