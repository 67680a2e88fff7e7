/** Passes over a file or folder that is not there (any more): `Deno.remove(path).catch(ignoreGone)`. @throws any other error. */
export function ignoreGone(error: unknown): undefined {
  if (error instanceof Deno.errors.NotFound) return undefined;
  throw error;
}
