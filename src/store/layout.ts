/**
 * Places of the folders in the capture directory, for the controller that holds it and for its readers.
 *
 *     <captureDir>/.packet-capture     marker: this directory is ours; the exclusive lock is held on it
 *     <captureDir>/.holder             who holds it, for people
 *     <captureDir>/.control            the socket at which readers ask the controller (control_path.ts)
 *     <captureDir>/<namespace>/<pod>/  a capture
 *     <captureDir>/.retained/<uid>/    a deleted pod's files
 */
import { basename, dirname, join } from "@std/path";
import { ignoreGone } from "../base/ignore_gone.ts";
import { isDnsLabel, isDnsName, isUid } from "../base/names.ts";

/** Names the owner of the directory; the exclusive lock is held on it. */
export const MARKER = ".packet-capture";
export const HOLDER = ".holder";
/** Folder that keeps deleted pods' captures, by UID. */
const RETAINED = ".retained";

/** Returns a pod's folder. @throws RangeError for names that Kubernetes does not allow: they must not become a path. */
export function podFolder(captureDir: string, namespace: string, pod: string): string {
  checkNames(namespace, pod);
  return join(captureDir, namespace, pod);
}

/** Returns the folder that has a folder for each deleted pod. */
export function retainedFolder(captureDir: string): string {
  return join(captureDir, RETAINED);
}

/** Returns where a deleted pod's files go. @throws RangeError for a UID that must not become a path. */
export function retainedFolderOf(captureDir: string, uid: string): string {
  if (!isUid(uid)) throw new RangeError(`Cannot use UID ${JSON.stringify(uid.slice(0, 80))} as a folder`);
  return join(retainedFolder(captureDir), uid);
}

/** Returns captureDir of a capture's folder, and whether the folder is a deleted pod's. */
export function placeOf(folder: string): { readonly captureDir: string; readonly isRetained: boolean } {
  const parent = dirname(folder);
  return { captureDir: dirname(parent), isRetained: basename(parent) === RETAINED };
}

/** Returns whether a name in captureDir is that of a folder which holds captures. */
export function holdsCaptures(name: string): boolean {
  return isDnsLabel(name) || name === RETAINED;
}

/**
 * Lists the folders of pods, by name, whatever is in them. Names that no pod can have are passed over, and so are symlinks.
 *
 * @param only the namespace whose folders are wanted; undefined: all.
 */
export async function podFolders(captureDir: string, only?: string): Promise<{ namespace: string; pod: string }[]> {
  const found = [];
  for (const namespace of (await directories(captureDir)).filter((name) => isDnsLabel(name))) {
    if (only !== undefined && namespace !== only) continue;
    for (const pod of await directories(join(captureDir, namespace))) {
      if (isDnsName(pod)) found.push({ namespace, pod });
    }
  }
  return found;
}

/** Lists the UIDs of deleted pods whose files are retained. A symlink in place of their directory is passed over. */
export async function retainedUids(captureDir: string): Promise<string[]> {
  const folder = retainedFolder(captureDir);
  return await isDirectory(folder) ? (await directories(folder)).filter(isUid) : [];
}

/** Returns whether there is a directory, and not a symlink to one. */
export async function isDirectory(path: string): Promise<boolean> {
  return (await Deno.lstat(path).catch(ignoreGone))?.isDirectory ?? false;
}

/** @throws RangeError if a name from the API is not one that Kubernetes allows: it must not become a path. */
export function checkNames(namespace: string, pod: string): void {
  if (!isDnsLabel(namespace)) {
    throw new RangeError(
      `Cannot use namespace ${JSON.stringify(namespace.slice(0, 80))} as a folder: it must be a DNS label`,
    );
  }
  if (!isDnsName(pod)) {
    throw new RangeError(
      `Cannot use pod ${JSON.stringify(pod.slice(0, 80))} as a folder: it must be a DNS subdomain name`,
    );
  }
}

/** Returns the directories in one, by name; none if it has gone, or something else has its name. */
async function directories(path: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(path)) if (entry.isDirectory) names.push(entry.name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
  }
  return names.sort();
}
