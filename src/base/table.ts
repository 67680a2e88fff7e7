/** Tables for people. */
import { printable } from "./printable.ts";

/**
 * Returns the rows as lines whose columns are aligned, two blanks between them. Whatever is in a cell is made safe to show.
 *
 * @param widths of the columns, which grow with the rows: for a table that comes in parts.
 */
export function tableLines(rows: readonly (readonly string[])[], widths: number[] = []): string[] {
  const safe = rows.map((row) => row.map(printable));
  for (const row of safe) row.forEach((cell, column) => widths[column] = Math.max(widths[column] ?? 0, cell.length));
  return safe.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd());
}

/** Compares texts by their code units, for `sort`. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
