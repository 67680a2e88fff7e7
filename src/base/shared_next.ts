/** Work that many ask for, and that is of use only if it began after they asked. */
export class SharedNext {
  readonly #work: () => Promise<void>;
  #last: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /** Does the work after what is under way, which may have passed what the caller wants: all who ask meanwhile share it. */
  run(): Promise<void> {
    return this.#next ??= this.#last.then(() => {
      this.#next = undefined;
      const done = this.#work();
      this.#last = done.catch(() => {});
      return done;
    });
  }
}
