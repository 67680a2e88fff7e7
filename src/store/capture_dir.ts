/** The capture directory of a controller: taking it, and making and deleting its folders. The only file that deletes folders. */
import { join } from "@std/path";
import { messageOf } from "../base/errors.ts";
import { ignoreGone } from "../base/ignore_gone.ts";
import { CONTROL } from "./control_path.ts";
import { deleteFile } from "./delete_file.ts";
import { MANIFEST } from "./manifest_file.ts";
import {
  HOLDER,
  holdsCaptures,
  isDirectory,
  MARKER,
  podFolder,
  podFolders,
  retainedFolder,
  retainedFolderOf,
  retainedUids,
} from "./layout.ts";
import { NOT_CAPTURING } from "./not_capturing.ts";

/** mkfs makes it in the root of an ext file system; the directory counts as empty all the same. */
const LOST_AND_FOUND = "lost+found";

/** The directory is not ours, or cannot be used: nothing has been touched. */
export class DirectoryRefused extends Error {}
/** Another controller holds the directory. */
export class DirectoryHeld extends Error {}

export interface CaptureDirOptions {
  /** The directory; it is made if it does not exist. */
  readonly path: string;
  readonly annotationKey: string;
  /** Name of this installation; another's directory is refused. */
  readonly release: string;
  /** Name of this controller in the message of a second one. */
  readonly holder: string;
}

/** The capture directory, held exclusively until it is closed. */
export class CaptureDir implements Disposable {
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly #marker: Deno.FsFile;
  /** The marker's: no other file has it as long as the marker is open. */
  readonly #held: Deno.FileInfo;

  private constructor(path: string, marker: Deno.FsFile) {
    this.path = path;
    this.#marker = marker;
    this.#held = marker.statSync();
  }

  /**
   * Takes the directory.
   *
   * @throws DirectoryRefused if it is not empty and not ours, or cannot be written to.
   * @throws DirectoryHeld if another controller holds it.
   */
  static async take(options: CaptureDirOptions): Promise<CaptureDir> {
    const wanted = JSON.stringify({ annotationKey: options.annotationKey, release: options.release });
    let marker: Deno.FsFile | undefined;
    try {
      await Deno.mkdir(options.path, { recursive: true, mode: 0o700 });
      const path = await Deno.realPath(options.path);
      const markerPath = join(path, MARKER);
      const names = [];
      for await (const { name } of Deno.readDir(path)) if (name !== LOST_AND_FOUND) names.push(name);
      const info = await Deno.lstat(markerPath).catch(ignoreGone);
      if (names.length > 0 && !info?.isFile) {
        throw new DirectoryRefused(
          `Cannot use captureDir ${path}: it is not empty and has no marker file ${MARKER}; it must be an empty directory, ` +
            `or one of this release`,
        );
      }
      marker = await Deno.open(markerPath, { read: true, write: true, create: true, mode: 0o600 });
      if (!await marker.tryLock(true)) {
        const holder = await Deno.readTextFile(join(path, HOLDER)).catch(() => "an unknown process");
        throw new DirectoryHeld(`Cannot use captureDir ${path}: it is held by ${holder.trim()}`);
      }
      const directory = new CaptureDir(path, marker);
      if (!await directory.isIntact()) {
        throw new DirectoryHeld(`Cannot use captureDir ${path}: it was replaced just now`);
      }
      const found = new TextDecoder().decode(await readAll(marker));
      // Empty: it was just made, or its maker was killed before it was written.
      const fresh = found === "" && names.every((name) => name === MARKER || name === HOLDER);
      if (!fresh && found.trim() !== wanted) {
        throw new DirectoryRefused(
          `Cannot use captureDir ${path}: its marker file ${MARKER} is ${
            JSON.stringify(found.trim().slice(0, 200))
          }; ` +
            `it must be ${wanted}`,
        );
      }
      if (fresh) {
        await marker.seek(0, Deno.SeekMode.Start);
        await marker.write(new TextEncoder().encode(wanted + "\n"));
        await marker.sync();
      }
      await Deno.chmod(path, 0o700);
      // For people only: on a full disk the captures of before are to be looked after all the same.
      await Deno.remove(join(path, HOLDER)).catch(ignoreGone);
      const text = options.holder + "\n";
      await Deno.writeTextFile(join(path, HOLDER), text, { createNew: true, mode: 0o600 }).catch(() => {});
      return directory;
    } catch (error) {
      marker?.close();
      if (error instanceof DirectoryRefused || error instanceof DirectoryHeld) throw error;
      throw new DirectoryRefused(
        `Cannot use captureDir ${options.path}: ${messageOf(error)}; ` +
          `it must be a directory that this process may write to`,
      );
    }
  }

  /** Opens the directory without its lock, besides the controller that holds it. */
  static async visit(path: string): Promise<CaptureDir> {
    const real = await Deno.realPath(path);
    return new CaptureDir(real, await Deno.open(join(real, MARKER), { read: true }));
  }

  /** Returns whether the directory at the path is still the one that is held. */
  async isIntact(): Promise<boolean> {
    const here = await Deno.lstat(join(this.path, MARKER)).catch(ignoreGone);
    // The marker itself is not asked: a call under way would hold the lock beyond the dispose.
    return here !== undefined && here.ino === this.#held.ino && here.dev === this.#held.dev;
  }

  /** @throws RangeError for names that Kubernetes does not allow. */
  folderOf(namespace: string, pod: string): string {
    return podFolder(this.path, namespace, pod);
  }

  /** Returns where a deleted pod's files go. @throws RangeError for a UID that must not become a path. */
  retainedFolderOf(uid: string): string {
    return retainedFolderOf(this.path, uid);
  }

  /** Returns the folders of pods that are there, whatever is in them. */
  folders(): Promise<{ namespace: string; pod: string }[]> {
    return podFolders(this.path);
  }

  /** Removes the empty directories that a controller leaves which is killed between two calls. */
  async tidy(): Promise<void> {
    for await (const { name, isDirectory } of Deno.readDir(this.path)) {
      if (isDirectory && holdsCaptures(name)) await this.#removeIfEmpty(join(this.path, name));
    }
  }

  /** Returns the UIDs of deleted pods whose files are retained. */
  retained(): Promise<string[]> {
    return retainedUids(this.path);
  }

  /**
   * Makes a pod's folder, or makes sure that what is there is one and holds nothing but regular files: a symlink that somebody
   * planted would lead tcpdump out of the directory.
   */
  async makeFolder(namespace: string, pod: string): Promise<string> {
    const folder = this.folderOf(namespace, pod);
    for (let attempt = 1;; attempt++) {
      try {
        await makeDirectory(join(this.path, namespace));
        await makeDirectory(folder);
        break;
      } catch (error) {
        // The namespace's directory was taken away with its last pod just between the two.
        if (!(error instanceof Deno.errors.NotFound) || attempt === 5) throw error;
      }
    }
    for await (const entry of Deno.readDir(folder)) {
      if (!entry.isFile) await Deno.remove(join(folder, entry.name), { recursive: true });
    }
    return folder;
  }

  /** Deletes a pod's folder, its manifest last, so that what an interruption leaves is still known to be that pod's. */
  async removeFolder(namespace: string, pod: string): Promise<void> {
    const folder = this.folderOf(namespace, pod);
    if (!await isDirectory(join(this.path, namespace))) return;
    await removeDirectory(folder);
    await this.#removeIfEmpty(join(this.path, namespace));
  }

  /** Moves a deleted pod's folder to where files are retained. @returns its new path. */
  async retainFolder(namespace: string, pod: string, uid: string): Promise<string> {
    const folder = this.folderOf(namespace, pod);
    const retained = this.retainedFolderOf(uid);
    await makeDirectory(retainedFolder(this.path));
    await removeDirectory(retained);
    await Deno.rename(folder, retained);
    await this.#removeIfEmpty(join(this.path, namespace));
    return retained;
  }

  async removeRetained(uid: string): Promise<void> {
    const folder = this.retainedFolderOf(uid);
    if (!await isDirectory(retainedFolder(this.path))) return;
    await removeDirectory(folder);
    await this.#removeIfEmpty(retainedFolder(this.path));
  }

  /**
   * Gives the directory back: removes what is ours in its root, the marker last. Nothing is touched while anything
   * else is in it: without the marker the next start would refuse the directory, and its disk may take no change at
   * all.
   *
   * @returns the names of what else is there.
   */
  async giveUp(): Promise<string[]> {
    const ours = [HOLDER, CONTROL, NOT_CAPTURING, `${NOT_CAPTURING}.tmp`];
    const others: string[] = [];
    for await (const { name } of Deno.readDir(this.path)) {
      if (name === MARKER || name === LOST_AND_FOUND || ours.includes(name)) continue;
      const isFolder = holdsCaptures(name) && await isEmptyDirectory(join(this.path, name));
      if (!isFolder) others.push(name);
    }
    if (others.length > 0) return others;
    await this.tidy();
    for (const name of [...ours, MARKER]) await Deno.remove(join(this.path, name)).catch(ignoreGone);
    return [];
  }

  /** Lets go of the lock. */
  [Symbol.dispose](): void {
    // A process that is being started at this moment has a copy of the descriptor until its program runs.
    this.#marker.unlockSync();
    this.#marker.close();
  }

  async #removeIfEmpty(directory: string): Promise<void> {
    await Deno.remove(directory).catch((error) => {
      if (!isNotEmpty(error)) ignoreGone(error);
    });
  }
}

async function removeDirectory(folder: string): Promise<void> {
  for (let attempt = 1;; attempt++) {
    if (!await isDirectory(folder)) return;
    try {
      for await (const entry of Deno.readDir(folder)) {
        if (entry.name === MANIFEST) continue;
        const path = join(folder, entry.name);
        await (entry.isFile ? deleteFile(path) : Deno.remove(path, { recursive: true })).catch(ignoreGone);
      }
      await Deno.remove(join(folder, MANIFEST)).catch(ignoreGone);
      await Deno.remove(folder);
      return;
    } catch (error) {
      // A reader has made its lock just now.
      if (!isNotEmpty(error) || attempt === 5) return ignoreGone(error);
    }
  }
}

async function isEmptyDirectory(path: string): Promise<boolean> {
  if (!await isDirectory(path)) return false;
  for await (const _ of Deno.readDir(path)) return false;
  return true;
}

/** @throws Deno.errors.NotADirectory if something else has the name. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    if (!await isDirectory(path)) {
      throw new Deno.errors.NotADirectory(`Cannot use ${path} as a folder: something that is not a directory is there`);
    }
  }
}

async function readAll(file: Deno.FsFile): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(4096);
  await file.seek(0, Deno.SeekMode.Start);
  const n = await file.read(bytes);
  return bytes.subarray(0, n ?? 0);
}

function isNotEmpty(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "ENOTEMPTY" || code === "EEXIST";
}
