/** Numbers in sentences for people, of the controller, the readers and the plugin. */

/** Formats bytes in the largest unit that fits: "512 B", "4.2 kB", "1.3 GB" (powers of 1000, as the annotation's MB). */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes, unit = 0;
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Puts a number before its noun: "3 files", "1 file". */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Counts how often something happened: "once", "3 times". */
export function times(number: number): string {
  return number === 1 ? "once" : `${number} times`;
}
