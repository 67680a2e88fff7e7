/** The capture files in one pod's folder: what they take of the disk, and what is done to them before, between and after runs. */
import type { LogFields } from "../log.ts";
import type { CaptureRequest } from "../spec/request.ts";
import { lastRunNumber, lastWritten, listRing, promote, type RingFile, runNumber, trim } from "../store/ring.ts";
import { cutTornRecord } from "../store/repair.ts";

/** The most by which a file exceeds its size: tcpdump begins a new one only after a packet, here of the largest snaplen. */
const LARGEST_RECORD = 262_144 + 16;

export class CaptureFiles {
  /** Bytes of all, as of the last look. */
  bytes = 0;
  /** Set while there are more than N files because a reader has them open: they are trimmed as soon as it has not. */
  hasSurplus = false;
  readonly #folder: string;
  readonly #pod: string;
  /** Bytes of the newest 0, 1, 2 … files: of all, and of the earlier ones. */
  #all: readonly number[] = [0];
  #earlier: readonly number[] = [0];

  constructor(folder: string, pod: string) {
    this.#folder = folder;
    this.#pod = pod;
  }

  /**
   * Looks at them, and trims them to N, whether tcpdump runs or not.
   *
   * @param n undefined: not known, all are kept.
   * @returns undefined if that was not possible: then what was known stays.
   */
  async look(n: number | undefined): Promise<RingFile[] | undefined> {
    const look = n === undefined ? listRing(this.#folder, this.#pod) : trim(this.#folder, this.#pod, n);
    return await look.catch(() => undefined);
  }

  /** Returns how many there are and what they take, without trimming, which may have to wait. @throws if they cannot be listed. */
  async size(): Promise<{ files: number; bytes: number }> {
    const files = await listRing(this.#folder, this.#pod).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      return [];
    });
    return { files: files.length, bytes: bytesOf(files) };
  }

  /** Takes over what a look has found. */
  count(files: readonly RingFile[], n: number | undefined): void {
    this.bytes = bytesOf(files);
    const earlier = files.filter((file) => file.earlier);
    this.hasSurplus = n !== undefined && files.length > n && earlier.length > 0;
    this.#all = newestSums(files);
    this.#earlier = newestSums(earlier);
  }

  /** Returns bytes of the newest N files that a run of the request does not overwrite. @param isRunning tcpdump writes for it now. */
  notOverwrittenBy({ files }: CaptureRequest, isRunning: boolean): number {
    const sums = isRunning ? this.#earlier : this.#all;
    return sums[Math.min(files, sums.length - 1)] ?? 0;
  }

  /** Sets the last run's files aside for a new one. @param last the last run's number, as it was noted. @returns the new one's. */
  async makeRoomForRun(last: number): Promise<number> {
    const files = await listRing(this.#folder, this.#pod);
    const highest = Math.max(lastRunNumber(files), last);
    if (files.every((file) => file.earlier)) return highest + 1;
    const run = Math.max(highest, 1);
    await promote(this.#folder, this.#pod, run, { dropEmpty: true });
    return run + 1;
  }

  /** Returns whether there are files of earlier runs, or set aside for a reader: they may have to be trimmed. */
  async haveEarlier(): Promise<boolean> {
    try {
      for await (const { name } of Deno.readDir(this.#folder)) if (runNumber({ name }) !== undefined) return true;
    } catch {
      // The folder is being made, or taken away.
    }
    return false;
  }

  /**
   * Cuts a torn last record off the file that a run wrote to when it ended, or off all that it wrote.
   *
   * @param run its number; undefined: the last there is.
   * @param say logs what was done.
   */
  async cutTorn(
    run: number | undefined,
    all: boolean,
    say: (message: string, fields: LogFields) => void,
  ): Promise<void> {
    const ring = await listRing(this.#folder, this.#pod).catch(() => []);
    const files = lastWritten(ring, run);
    for (const { name, path } of all ? files : files.slice(-1)) {
      try {
        const bytes = await cutTornRecord(path);
        if (bytes > 0) say("torn record cut off", { file: name, bytes });
      } catch (error) {
        say("cannot cut off a torn record", { file: name, error });
      }
    }
  }
}

/** Returns the bytes of all these files. */
export function bytesOf(files: readonly RingFile[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Returns the sums of the newest 0, 1, 2 … files, without the packet by which a file may exceed its nominal size. */
function newestSums(files: readonly RingFile[]): number[] {
  const sums = [0];
  for (const { bytes } of files.toReversed()) sums.push(sums.at(-1)! + Math.max(0, bytes - LARGEST_RECORD));
  return sums;
}
