const SECONDS = { s: 1, m: 60, h: 3600 } as const;

/** Seconds of a duration such as `30s`, `10m`, `2h` or `0s`; undefined if it is not written like that. */
export function parseDuration(text: string): number | undefined {
  const match = /^([0-9]{1,9})([smh])$/.exec(text);
  return match === null ? undefined : Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS];
}

/** Returns a duration as `parseDuration` reads it: 90 → 90s, 600 → 10m, 7200 → 2h. */
export function formatDuration(seconds: number): string {
  if (seconds > 0 && seconds % 3600 === 0) return `${seconds / 3600}h`;
  if (seconds > 0 && seconds % 60 === 0) return `${seconds / 60}m`;
  return `${seconds}s`;
}
