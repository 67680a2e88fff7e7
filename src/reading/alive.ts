/** Finds whether somebody may still write to a capture's files: only then may the newest one end in what cannot be read yet. */
import { join } from "@std/path";
import { MARKER, placeOf } from "../store/layout.ts";
import type { Manifest } from "../store/manifest.ts";

/**
 * Returns whether a tcpdump of ours may be writing to a capture's folder, which is two levels below captureDir: a
 * controller holds the directory, and no manifest records that the last run has ended.
 */
export async function mayBeWritten(folder: string, manifest: Manifest | undefined): Promise<boolean> {
  const last = manifest?.runs.at(-1);
  const { captureDir, isRetained } = placeOf(folder);
  if (isRetained || manifest?.state === "retained") return false;
  if (manifest && (last === undefined || last.endedAt !== undefined)) return false;
  return await isHeld(captureDir);
}

/** Returns whether a controller holds captureDir: it has its marker locked. Takes that lock for a moment if nobody has it. */
async function isHeld(captureDir: string): Promise<boolean> {
  try {
    using marker = await Deno.open(join(captureDir, MARKER), { read: true });
    return !await marker.tryLock(false);
  } catch (error) {
    // Without a marker it is no controller's.
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
