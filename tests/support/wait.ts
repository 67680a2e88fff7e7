/** Waits for a fact, with a deadline and a reason. */

export interface WaitOptions {
  /** Milliseconds. @default 60_000 */
  timeoutMs?: number;
  /** Milliseconds between two looks. @default 100 */
  everyMs?: number;
  signal?: AbortSignal;
}

/**
 * Looks again and again until `look` gives something other than `undefined` and `false`, and returns that. What `look` throws
 * counts as "not yet", and is quoted when the time is up.
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | false>> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const end = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      const seen = await look();
      if (seen !== undefined && seen !== false) return seen as Exclude<T, undefined | false>;
      last = undefined;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    if (performance.now() >= end) {
      const why = last instanceof Error ? `: ${last.message}` : "";
      throw new Error(`Waited ${timeoutMs / 1000} s in vain for ${what}${why}`);
    }
    await new Promise((done) => setTimeout(done, options.everyMs ?? 100));
  }
}

/** Thrown by a `look` where waiting longer is of no use. */
export class Hopeless extends Error {
  override name = "Hopeless";
}

/** Makes a check final: what it throws ends the {@linkcode waitFor} around it at once, instead of counting as "not yet". */
export async function must<T>(check: () => T | Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    if (error instanceof Hopeless) throw error;
    throw new Hopeless(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** Waits until `over`, while `check`, looked at again and again, must hold all the while: what it throws is thrown at once. */
export async function lasting(
  what: string,
  over: () => boolean | Promise<boolean>,
  check: () => unknown,
  options: WaitOptions = {},
): Promise<void> {
  await waitFor(what, async () => {
    await must(check);
    return await over();
  }, options);
}
