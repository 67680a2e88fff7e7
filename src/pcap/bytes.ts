/** Sources of bytes for readers, and the sliding buffer through which they look at them in constant memory. */

/**
 * A sequence of bytes read from the front; synchronous, because it is a local file or memory, and a read per packet
 * must be cheap.
 */
export interface ByteSource {
  /** Reads at most `into.length` bytes. @returns how many; 0 when there are no more, for now or for ever. */
  read(into: Uint8Array): number;
}

/** The bytes of an array, as a source. */
export class MemorySource implements ByteSource {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  read(into: Uint8Array): number {
    const n = Math.min(into.length, this.#bytes.length - this.#at);
    into.set(this.#bytes.subarray(this.#at, this.#at + n));
    this.#at += n;
    return n;
  }
}

/** An open file from its present position on, as a source. The file stays the caller's to close. */
export class FileSource implements ByteSource {
  readonly #file: Deno.FsFile;

  constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  read(into: Uint8Array): number {
    return this.#file.readSync(into) ?? 0;
  }
}

/** Large enough that system calls do not count, small enough that 250 sources opened at once fit in 64 MiB. */
const INITIAL_BYTES = 256 * 1024;

/**
 * A buffer over a source: `bytes` and `view` hold what has been read and not yet passed, from `at` to `end`. Both arrays are
 * replaced when it grows, so they must be read again after each call of `need`.
 */
export class Lookahead {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView;
  /** Index in `bytes` of the next byte that has not been passed. */
  at = 0;
  /** Index after the last byte that was read. */
  end = 0;
  readonly #source: ByteSource;
  /** Bytes that have left the buffer. */
  #gone = 0;

  /** @param buffer used until a larger one is needed: the size of a new one in bytes, or one that nobody uses any more. */
  constructor(source: ByteSource, buffer: number | Uint8Array<ArrayBuffer> = INITIAL_BYTES) {
    this.#source = source;
    this.bytes = typeof buffer === "number" ? new Uint8Array(buffer) : buffer;
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
  }

  /** Returns the offset in the source of an index in the buffer. */
  offsetOf(index: number): number {
    return this.#gone + index;
  }

  /**
   * Makes at least `count` bytes from `at` on present, reading as much as fits; moves `at`, so indexes in the buffer do not
   * survive it.
   *
   * @returns whether they are; if not, the source has no more for now, and all it has is present.
   */
  need(count: number): boolean {
    if (this.end - this.at >= count) return true;
    if (this.at > 0) {
      this.bytes.copyWithin(0, this.at, this.end);
      this.#gone += this.at;
      this.end -= this.at;
      this.at = 0;
    }
    if (count > this.bytes.length) {
      // Twice the need, lest each step from here moves all of it to the front.
      const grown = new Uint8Array(2 * count);
      grown.set(this.bytes.subarray(0, this.end));
      this.bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    while (this.end < this.bytes.length) {
      const n = this.#source.read(this.bytes.subarray(this.end));
      if (n === 0) break;
      this.end += n;
    }
    return this.end >= count;
  }
}
