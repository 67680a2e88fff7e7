/** The share of packets that were lost. */

/** Returns the per cent of the received packets that were dropped, with two decimals: 0 only if none were, 100 only if all. */
export function lostPercent({ received, dropped }: { readonly received: number; readonly dropped: number }): number {
  if (dropped === 0) return 0;
  // The kernel counts what it drops as received too.
  if (dropped >= received) return 100;
  return Math.min(Math.max(Math.round(10_000 * dropped / received), 1), 9999) / 100;
}

/** Writes the number of dropped packets into a cell of a table, with their share: `21 (0.49%)`. */
export function droppedCell(dropped: number, percent: number | undefined): string {
  return dropped === 0 || percent === undefined ? String(dropped) : `${dropped} (${percent}%)`;
}
