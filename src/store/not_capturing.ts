/**
 * `<captureDir>/.not-capturing.json`: requests that have no folder (rejected, waiting, pending), for `list`.
 *
 * Such a request gets no folder, because no file is made for a pod that is not captured. Readers are
 * other processes, so `list` reads it from this one small file, which is replaced as a whole. An
 * HTTP endpoint would be open to anyone who reaches the port.
 */
import { join } from "@std/path";

export const NOT_CAPTURING = ".not-capturing.json";

/** Replaces the report in one step. @param text a JSON array of {namespace, pod, uid, state, reason, since, request, wanted}. */
export async function writeNotCapturing(directory: string, text: string): Promise<void> {
  const path = join(directory, NOT_CAPTURING);
  const temporary = `${path}.tmp`;
  await Deno.remove(temporary).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  try {
    await Deno.writeTextFile(temporary, text + "\n", { createNew: true, mode: 0o600 });
    await Deno.rename(temporary, path);
  } catch (error) {
    // A full disk takes the file and not what is in it.
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}
