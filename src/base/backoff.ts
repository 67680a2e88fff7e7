/** Returns the milliseconds ± 25 %, so that many that wait for as long do not come at once. */
export function jittered(ms: number): number {
  return ms * (0.75 + Math.random() / 2);
}
