/** Tables for people. */
import { printable } from "./printable.ts";

/** Returns the rows as lines whose columns are aligned, two blanks between them. Whatever is in a cell is made safe to show. */
export function tableLines(rows: readonly (readonly string[])[]): string[] {
  const safe = rows.map((row) => row.map(printable));
  const widths = (safe[0] ?? []).map((_, column) => Math.max(...safe.map((row) => (row[column] ?? "").length)));
  return safe.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd());
}

/** Compares texts by their code units, for `sort`. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
