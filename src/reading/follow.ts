/**
 * The files of a ring in the order in which they were written, while tcpdump goes on: those present
 * first, then each new one.
 *
 * A stream can last for days, so it holds no lock and no deleted file's space. It looks at the folder every
 * 100 ms and opens each file once, by inode and first bytes, so renaming does not matter. A waiting file
 * that is overwritten or trimmed is released and counted; its new content comes in its new place. If the
 * newest file of one look is gone at the next, the ring has gone around. A file that grows although
 * it counted as finished is continued where it was read to. A file can be missing from one listing while
 * others rename it, so the folder is listed again, and what was known is kept for one more look.
 *
 * It does not use inotify: the kernel's 0.8 s bound the delay anyway, a look costs a third of a
 * millisecond, and a mapped ring would give an event per packet.
 */
import { listRing, type RingFile, runNumber } from "../store/ring.ts";
import { ignoreGone } from "../base/ignore_gone.ts";
import { CaptureFile, startsWith } from "./capture_file.ts";

/** Number of passes through a folder within one look, because files were renamed meanwhile. */
const MOST_PASSES = 3;

/** A file in the folder, from one truncation to the next. */
interface Generation {
  readonly inode: number | null;
  readonly run: number;
  front: Uint8Array;
  /** File that is open, in the queue. */
  file: CaptureFile | undefined;
  /** Up to where it has been read by whom held it to be finished. */
  readTo: number;
  /** Number of the last look that saw it. */
  seen: number;
}

export class Follower implements Disposable {
  /** Files still to be read, oldest first; all but the last one are finished. The first one is the caller's to `shift`. */
  readonly queue: CaptureFile[] = [];
  /** Bytes overwritten before they were read, 0 if it is not known how many; undefined: none. The caller takes it back. */
  missed: number | undefined;
  /** The folder is gone, or is another capture's. */
  ended = false;

  readonly #folder: string;
  readonly #pod: string;
  #generations: Generation[] = [];
  /** The one that began last; modification times do not show which that is once the clock has been set back. */
  #newest: Generation | undefined;
  /** Size, modification time and generation of each file, by path, so that an unchanged one need not be opened. */
  #looked = new Map<string, { bytes: number; mtime: number; generation: Generation }>();
  #looks = 0;

  constructor(folder: string, pod: string) {
    this.#folder = folder;
    this.#pod = pod;
  }

  /**
   * Looks at the folder, which must be done more often than a ring goes around.
   *
   * @param presentRun gives the number of the present run, undefined if the folder is another capture's by now; asked for new files only.
   */
  async look(presentRun: () => Promise<number | undefined>): Promise<void> {
    this.#prune();
    this.#looks++;
    const newest = this.#newest;
    for (let pass = 1; pass <= MOST_PASSES && !this.ended; pass++) {
      const files = await listRing(this.#folder, this.#pod, { blocking: true }).catch(ignoreGone);
      if (!files) {
        this.ended = true;
        return;
      }
      const whole = await this.#take(files, presentRun);
      // Files that are renamed just now are not where they were listed.
      if (whole && (!newest || newest.seen === this.#looks)) break;
    }
    // The ring overwrites the oldest first: with the newest of the last look, all between then and now is gone too. Without anything
    // newer it was deleted, as the whole folder may just be.
    const gone = newest !== this.#newest && newest?.seen !== this.#looks;
    if (gone && newest && newest.front.length > HEADER_ONLY) this.missed ??= 0;
    // One look more, because a rename of the whole ring may hide a file from all passes.
    this.#generations = this.#generations.filter(({ seen }) => seen >= this.#looks - 1);
  }

  /**
   * Closes the first file: it has been read, or what was not is gone.
   *
   * @param readTo the offset in it up to which it was; if it grows beyond, which a finished file does not, it is queued again.
   */
  shift(readTo: number): void {
    const file = this.queue.shift();
    if (!file) return;
    const generation = this.#generations.find((generation) => generation.file === file);
    if (generation) {
      generation.file = undefined;
      generation.readTo = readTo;
    }
    file.close();
  }

  [Symbol.dispose](): void {
    for (const file of this.queue.splice(0)) file.close();
  }

  /** Takes in a list of the folder's files. @returns whether all were found where they were listed. */
  async #take(files: readonly RingFile[], presentRun: () => Promise<number | undefined>): Promise<boolean> {
    const seen = new Map<string, { bytes: number; mtime: number; generation: Generation }>();
    const begun: { generation: Generation; file: CaptureFile }[] = [];
    let whole = true;
    for (const { path, name, bytes, mtime } of files) {
      const before = this.#looked.get(path);
      let generation = before?.bytes === bytes && before.mtime === mtime ? before.generation : undefined;
      if (!generation) {
        const opened = openSync(path);
        if (!opened) {
          whole = false;
          continue;
        }
        const file = new CaptureFile(opened, name, 0);
        if (file.isDeleted) {
          file.close();
          whole = false;
          continue;
        }
        generation = this.#find(file);
        if (!generation) {
          const run = await presentRun();
          if (run === undefined) {
            this.ended = true;
            file.close();
            return true;
          }
          file.run = runNumber({ name }) ?? run;
          generation = { inode: file.info.ino, run: file.run, front: file.front, file, readTo: 0, seen: this.#looks };
          this.#generations.push(generation);
          // Begun after it was listed, as the oldest: it is the newest now.
          if (file.bytes < bytes) begun.push({ generation, file });
          else this.#enqueue(generation, file);
        }
      }
      generation.seen = this.#looks;
      if (generation.file) generation.file.seenBytes = bytes;
      seen.set(path, { bytes, mtime, generation });
    }
    for (const { generation, file } of begun) this.#enqueue(generation, file);
    this.#looked = seen;
    return whole;
  }

  #enqueue(generation: Generation, file: CaptureFile): void {
    generation.file = file;
    this.#newest = generation;
    this.queue.push(file);
  }

  /**
   * Returns the generation found in a file just opened, which is closed, unless it has grown though it was held to be
   * finished.
   */
  #find(file: CaptureFile): Generation | undefined {
    const inode = file.info.ino;
    const known = this.#generations.find((generation) =>
      generation.inode === inode && startsWith(file.front, generation.front)
    );
    if (!known) return undefined;
    known.front = file.front;
    if (known.file === undefined && file.bytes > known.readTo) {
      file.run = known.run;
      file.skipTo(known.readTo);
      this.#enqueue(known, file);
    } else file.close();
    return known;
  }

  /** Lets go of files that wait to be read but have been overwritten, or deleted to make room: their space is not ours. */
  #prune(): void {
    for (let i = this.queue.length - 1; i > 0; i--) {
      const file = this.queue[i]!;
      if (!file.isDeleted && file.isIntact) continue;
      if (!file.isEmpty) this.missed = (this.missed ?? 0) + file.bytes;
      file.close();
      this.queue.splice(i, 1);
    }
  }
}

/** A pcap file without packets has so many bytes. */
const HEADER_ONLY = 24;

/** Opens a file while the thread waits, as in snapshot.ts: the ring goes on meanwhile. */
function openSync(path: string): Deno.FsFile | undefined {
  try {
    return Deno.openSync(path);
  } catch (error) {
    return ignoreGone(error);
  }
}
