/** Cuts a wait short when its result may be of no use any more. */
export class Interrupt {
  #fire: (() => void) | undefined;

  /** Ends the wait that is under way, if any. */
  fire(): void {
    this.#fire?.();
  }

  /** Waits for a promise, but no longer than until the next {@linkcode fire}. @returns undefined then. */
  async race<T>(promise: Promise<T>): Promise<T | undefined> {
    const fired = Promise.withResolvers<undefined>();
    this.#fire = () => fired.resolve(undefined);
    try {
      return await Promise.race([promise, fired.promise]);
    } finally {
      this.#fire = undefined;
    }
  }
}
