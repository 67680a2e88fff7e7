/**
 * The file that the user gets: it appears under its name whole, or not at all.
 *
 * It gets its name by a hard link, which unlike a rename never replaces a file that has appeared meanwhile.
 * With `--force`, and where there are no links, it is renamed. Standard output (`-o -`) goes the same way, because
 * what was sent cannot be taken back.
 */
import { basename, dirname, join } from "node:path";
import { Failure } from "../failure.ts";

/** Errors of a disk that takes no more: ENOSPC, EDQUOT, EFBIG (errno numbers of Linux and macOS). */
const FULL = /os error (28|122|27|69)\b/;

export interface OutputFileOptions {
  /** Replace a file that is there. */
  readonly force: boolean;
}

/** A file that is not yet what the user gets. */
export interface PartFile {
  readonly path: string;
  /** Name of what it becomes, for people. */
  readonly becomes: string;
}

/**
 * A place to write to next to the file, on the same file system: a hidden folder `.NAME.XXXX.part`, removed when
 * disposed. Only a kill that cannot be caught leaves it there.
 */
export class OutputFile implements AsyncDisposable {
  /** Folder for parts and the finished file. */
  readonly folder: string;
  readonly #path: string;
  readonly #force: boolean;

  private constructor(folder: string, path: string, force: boolean) {
    this.folder = folder;
    this.#path = path;
    this.#force = force;
  }

  /**
   * @param path Where the file is to appear; `-` for standard output, whose parts are in the temporary folder.
   * @throws {Failure} there is a file already (without `force`), or the place cannot be written to.
   */
  static async create(path: string, { force }: OutputFileOptions): Promise<OutputFile> {
    try {
      if (path === "-") return new OutputFile(await Deno.makeTempDir({ prefix: "packet-capture." }), path, force);
      await checkFree(path, force);
      const folder = await Deno.makeTempDir({ dir: dirname(path), prefix: `.${basename(path)}.`, suffix: ".part" });
      return new OutputFile(folder, path, force);
    } catch (error) {
      throw fileFailure(error, path === "-" ? "the temporary folder" : path);
    }
  }

  /** Returns a file in the folder. */
  part(name: string): PartFile {
    return {
      path: join(this.folder, name),
      becomes: this.#path === "-" ? "a file in the temporary folder" : this.#path,
    };
  }

  /**
   * Gives the finished file its name.
   *
   * @throws {Failure} it cannot be done; without `force` also if a file of that name has appeared meanwhile.
   */
  async publish(part: string): Promise<void> {
    try {
      if (this.#force) return await Deno.rename(part, this.#path);
      try {
        // Unlike a rename, a link never replaces a file that has appeared meanwhile.
        await Deno.link(part, this.#path);
      } catch (error) {
        if (error instanceof Deno.errors.AlreadyExists) throw error;
        await checkFree(this.#path, false);
        await Deno.rename(part, this.#path); // file systems without links: FAT, some network shares
      }
    } catch (error) {
      throw fileFailure(error, this.#path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true }).catch(() => {});
  }
}

/** Returns an error of the file system as a sentence; anything else as it is. */
export function fileFailure(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || error instanceof Failure) return error;
  if (FULL.test(error.message)) return new Failure(`Cannot write ${path}: the disk is full; nothing was kept`);
  if (error instanceof Deno.errors.AlreadyExists) {
    return new Failure(`Cannot write ${path}: it exists already; give another name with -o, or --force to replace it`);
  }
  if (error instanceof Deno.errors.NotFound) {
    return new Failure(`Cannot write ${path}: the folder ${dirname(path)} does not exist`);
  }
  if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
    return new Failure(`Cannot write ${path}: permission denied`);
  }
  if (/os error \d+/.test(error.message)) {
    return new Failure(`Cannot write ${path}: ${error.message.replace(/ \(os error.*/, "")}`);
  }
  return error;
}

async function checkFree(path: string, force: boolean): Promise<void> {
  const info = await Deno.stat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (info?.isDirectory) throw new Failure(`Cannot write ${path}: it is a folder; give the name of a file with -o`);
  // It would be replaced, not written to: a pipe, or for root /dev/null.
  if (info && !info.isFile) {
    throw new Failure(`Cannot write ${path}: it is not a regular file; give the name of one, or - for a pipe`);
  }
  if (info !== undefined && !force) throw new Deno.errors.AlreadyExists(path);
}
