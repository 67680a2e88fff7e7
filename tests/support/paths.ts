/** Where the project is, and what is there. */
import { dirname } from "node:path";

/** The project's root. */
export const ROOT: string = dirname(dirname(import.meta.dirname!));

/** Returns whether there is a file or folder, also by way of links. */
export async function isThere(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
