/** What tcpdump says of its counters, in one line for SIGUSR1 and in three at its end. */

export interface Counters {
  /** Packets that tcpdump has processed. */
  readonly captured: number;
  /** Packets that the kernel saw and that passed the filter. */
  readonly received: number;
  /** Packets lost since tcpdump was too slow. */
  readonly dropped: number;
}

export const NO_PACKETS: Counters = { captured: 0, received: 0, dropped: 0 };

/** Returns the counters of two runs together. */
export function added(one: Counters, other: Counters): Counters {
  return {
    captured: one.captured + other.captured,
    received: one.received + other.received,
    dropped: one.dropped + other.dropped,
  };
}

const COUNTER = /([0-9]+) packets? (captured|received by filter|dropped by kernel|dropped by interface)/;
const COUNTER_KEYS = {
  "captured": "captured",
  "received by filter": "received",
  "dropped by kernel": "dropped",
  "dropped by interface": undefined,
} as const;
/** tcpdump and libpcap count in 32 bits, which wrap: after five days at 10,000 packets a second. */
const COUNTER_MODULUS = 2 ** 32;

/** Returns what a counter stands at, with its wraps. @param before the same at the last answer. @param low what tcpdump prints. */
export function widened(before: number, low: number): number {
  const lowBefore = before % COUNTER_MODULUS;
  const wraps = lowBefore - low > COUNTER_MODULUS / 2 ? 1 : 0;
  return before - lowBefore + wraps * COUNTER_MODULUS + low;
}

/** Whether the line is about counters. */
export function isCounter(line: string): boolean {
  return COUNTER.test(line);
}

/** Reads SIGUSR1's one line or one of the three at the end, which are in the same words. @param before what was known. */
export function countersIn(line: string, before: Counters | undefined): Counters {
  const counters = { ...NO_PACKETS, ...before };
  for (const [, number, what] of line.matchAll(new RegExp(COUNTER, "g"))) {
    const key = COUNTER_KEYS[what as keyof typeof COUNTER_KEYS];
    if (key !== undefined) counters[key] = widened(counters[key], Number(number));
  }
  return counters;
}
