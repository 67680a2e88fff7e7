/** Returns a thrown value, whatever it is, as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
