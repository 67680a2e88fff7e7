/** The free-space floor: below it no capture may write. */
import { statfs } from "node:fs/promises";

/** Percent points above the floor at which writing is allowed again, so that it does not flutter. */
const HYSTERESIS_PERCENT = 2;
/** A file system without free inodes takes no new file; a few are kept for others. Below this share of them we stop. */
const MIN_FREE_INODES_PERCENT = 1;

/** The numbers of statfs(2), in its own units. `bavail`: blocks that we may still write. */
export interface FileSystem {
  readonly bsize: number;
  readonly blocks: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
}

export class DiskFloor {
  /** Reason why nothing may be written now, one sentence; undefined: it may. */
  paused: string | undefined;
  /** Bytes free, as of the last look; undefined before the first. */
  freeBytes: number | undefined;

  #short = { space: false, inodes: false };
  readonly #path: string;
  readonly #minFreePercent: number;
  readonly #look: (path: string) => Promise<FileSystem>;

  /** @param minFreePercent of the file system's size, which is how the kubelet counts nodefs.available too. */
  constructor(
    path: string,
    minFreePercent: number,
    look: (path: string) => Promise<FileSystem> = (path) => statfs(path),
  ) {
    this.#path = path;
    this.#minFreePercent = minFreePercent;
    this.#look = look;
  }

  /** Looks at the file system. @returns whether `paused` has turned on or off. */
  async look(): Promise<boolean> {
    const fs = await this.#look(this.#path);
    this.freeBytes = fs.bavail * fs.bsize;
    const before = this.paused !== undefined;
    const free = fs.blocks > 0 ? 100 * fs.bavail / fs.blocks : 100;
    // Some file systems (btrfs) count no inodes.
    const inodes = fs.files > 0 ? 100 * fs.ffree / fs.files : 100;
    // No disk is ever all free: with a floor near 100 % captures would never resume.
    const more = Math.min(HYSTERESIS_PERCENT, (100 - this.#minFreePercent) / 2);
    const needed = this.#minFreePercent + (this.#short.space ? more : 0);
    const inodesNeeded = MIN_FREE_INODES_PERCENT * (this.#short.inodes ? 2 : 1);
    this.#short = { space: free < needed || fs.bavail === 0, inodes: inodes < inodesNeeded };
    this.paused = this.#short.space
      ? `the disk has ${
        free.toFixed(1)
      } % free; it must have at least limits.minFreePercent, ${this.#minFreePercent} %, ` +
        `and ${more} % more to resume`
      : this.#short.inodes
      ? `the disk has ${inodes.toFixed(1)} % of its inodes free; it must have at least ${MIN_FREE_INODES_PERCENT} %`
      : undefined;
    return before !== (this.paused !== undefined);
  }
}
