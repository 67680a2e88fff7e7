/** The one back-off: the first wait, doubled with each further failure, up to the longest. */
export interface BackoffSteps {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns how many milliseconds to wait after so many failures in a row: between half and all of the step ("equal jitter"), so that
 * many that failed together do not come back together, and none waits for longer than `mostMs`.
 *
 * @param failures counted from 1.
 * @param random for tests, and `() => 1` where nobody else fails at the same time.
 */
export function backoffMs(failures: number, { firstMs, mostMs }: BackoffSteps, random = Math.random): number {
  // 2 ** 1024 is Infinity, which is no failure here: the smaller one counts.
  return Math.min(firstMs * 2 ** (failures - 1), mostMs) * (0.5 + random() / 2);
}
