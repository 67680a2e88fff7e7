/**
 * Puts packets in order of time, in constant memory. They come nearly sorted: the kernel hands packets of several
 * CPUs over in slightly another order than that of their timestamps. Already encoded records are gathered in chunks;
 * while they come in order a full chunk is handed on as it is, and only a window in which something came late is
 * sorted.
 *
 * Sorting within 2 s would hold 200 MB at 100 MB/s, so the window is counted in bytes. It starts at 4 MiB and doubles
 * up to 64 MiB when a packet belongs more than half a window back. Half is kept at each release. Up to 16 MB/s that
 * covers 2 s; beyond it, late packets stay where they came and are counted. A packet more than 2 s late means that
 * the clock was set back: all before it is written, and a new window begins. The order across such a step is the
 * order of capture.
 */
import { MAX_CAPTURED } from "./packet.ts";

/** Seconds by which an overtaken packet can be late. A later one means that the clock was set back. */
export const WINDOW_SECONDS = 2;
/** A chunk takes the largest packet with room to spare for a block's options; a record with more of them has a chunk of its own. */
const CHUNK_BYTES = 2 * MAX_CAPTURED;
/** Bytes held back at first. Packets of several CPUs are milliseconds apart: half of this holds 40 ms at 100 MB/s. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** Bytes held back at most, once packets come that late: half of this holds 2 s at 16 MB/s. */
const MAX_WINDOW_BYTES = 64 * 1024 * 1024;

/** Encoded records, one after the other. */
export class Chunk {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  /** Bytes in use. */
  used = 0;
  /** Records in it; `starts` and `keys` may be longer, from an earlier use. */
  count = 0;
  readonly starts: number[] = [];
  /** Time of each record in nanoseconds since the window's base. */
  readonly keys: number[] = [];
  /** The highest of them. */
  newest = -Infinity;

  constructor(size: number = CHUNK_BYTES) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  /** The bytes in use. */
  get content(): Uint8Array {
    return this.bytes.subarray(0, this.used);
  }
}

export interface Reordering {
  /** Bytes held back so that late packets find their place, at first; @default 4 MiB */
  readonly windowBytes?: number;
  /** Bytes held back when packets come later than that; @default 64 MiB */
  readonly maxWindowBytes?: number;
  /** Whether records come out in the order in which they went in, whatever their times, with no more held back than a chunk. */
  readonly asTheyCome?: boolean;
}

/** Measures of how far out of order the packets were. */
export interface Disorder {
  /** Packets that were put before others that had come earlier. */
  sorted: number;
  /** Packets that came within 2 s but too late for the window: they stand after some that are newer. */
  unsorted: number;
  /** Times the clock was set back, and by how many seconds in all. */
  steps: number;
  stepSeconds: number;
}

/**
 * Records go in by `room`, and come out by `take` as chunks whose bytes can be written as they are; each chunk taken must be
 * given back by `recycle` when it has been written.
 */
export class Reorder {
  readonly disorder: Disorder = { sorted: 0, unsorted: 0, steps: 0, stepSeconds: 0 };
  /** Seconds by which the clock was set back before the packet for which room was made last; 0: it was not. */
  stepped = 0;

  /** Bytes of the window, as the sizes of chunks. */
  #limit: number;
  #held = 0;
  readonly #maxLimit: number;
  readonly #asTheyCome: boolean;
  /** Oldest first; the last one takes records. */
  #window: Chunk[] = [];
  readonly #ready: Chunk[] = [];
  readonly #spare: Chunk[] = [];
  /** Something in the window is not in order. */
  #disordered = false;
  #baseSeconds = -1;
  /** Key of the newest record after the last step of the clock. */
  #newest = -Infinity;
  /** Key of the newest record handed on after that step. */
  #passed = -Infinity;

  constructor(
    { windowBytes = WINDOW_BYTES, maxWindowBytes = MAX_WINDOW_BYTES, asTheyCome = false }: Reordering = {},
  ) {
    this.#asTheyCome = asTheyCome;
    this.#limit = asTheyCome ? CHUNK_BYTES : Math.max(2 * CHUNK_BYTES, windowBytes);
    this.#maxLimit = Math.max(this.#limit, maxWindowBytes);
  }

  /**
   * Makes room for one record with this time, of at most `bytes`. The caller writes it at the chunk's `used`, and raises that.
   * If the clock was set back before this packet, what came before is handed on unmixed.
   */
  room(bytes: number, seconds: number, nanos: number): Chunk {
    if (this.#baseSeconds < 0) this.#baseSeconds = seconds;
    // Exact for 104 days from the base on; beyond, packets nanoseconds apart may count as simultaneous.
    const key = (seconds - this.#baseSeconds) * 1e9 + nanos;
    this.stepped = 0;
    if (key < this.#newest && !this.#asTheyCome) {
      if (key < this.#newest - WINDOW_SECONDS * 1e9) this.#step(this.#newest - key);
      else if (key < this.#passed) this.disorder.unsorted++;
      else this.disorder.sorted++;
      this.#widen(key);
    }
    let chunk = this.#window[this.#window.length - 1];
    if (chunk === undefined || chunk.used + bytes > chunk.bytes.length) {
      if (this.#held + CHUNK_BYTES > this.#limit) this.#release(this.#limit / 2);
      chunk = this.#append(bytes);
    }
    if (key < this.#newest) this.#disordered = !this.#asTheyCome;
    else this.#newest = key;
    chunk.newest = Math.max(chunk.newest, key);
    chunk.keys[chunk.count] = key;
    chunk.starts[chunk.count++] = chunk.used;
    return chunk;
  }

  get hasReady(): boolean {
    return this.#ready.length > 0;
  }

  /** Takes out a chunk to write, if one is ready. */
  take(): Chunk | undefined {
    return this.#ready.shift();
  }

  /** Takes a written chunk back. */
  recycle(chunk: Chunk): void {
    if (chunk.bytes.length !== CHUNK_BYTES) return;
    chunk.used = 0;
    chunk.count = 0;
    chunk.newest = -Infinity;
    this.#spare.push(chunk);
  }

  /** Makes all that is held back ready. */
  flush(): void {
    this.#release(0);
  }

  /** Holds more back if the place of a late record is more than half a window away: half of it is kept at each release. */
  #widen(key: number): void {
    let behind = this.#held;
    for (const chunk of this.#window) {
      if (chunk.newest > key) break;
      behind -= chunk.bytes.length;
    }
    if (2 * behind > this.#limit) this.#limit = Math.min(2 * this.#limit, this.#maxLimit);
  }

  #step(nanos: number): void {
    this.flush();
    this.disorder.steps++;
    this.disorder.stepSeconds += nanos / 1e9;
    this.stepped = nanos / 1e9;
    this.#newest = -Infinity;
    this.#passed = -Infinity;
  }

  /** Makes the oldest chunks ready until at most `keep` bytes are left. */
  #release(keep: number): void {
    if (this.#disordered) this.#sort();
    while (this.#held > keep) {
      const chunk = this.#window.shift()!;
      this.#held -= chunk.bytes.length;
      this.#passed = Math.max(this.#passed, chunk.newest);
      this.#ready.push(chunk);
    }
  }

  #sort(): void {
    const { length } = this.#window;
    const old = this.#window;
    const total = old.reduce((sum, chunk) => sum + chunk.count, 0);
    // Keys and their places, in one array of numbers each: an object per record would be ten times the memory.
    const keys = new Float64Array(total);
    const places = new Uint32Array(total);
    const order = new Uint32Array(total);
    let i = 0;
    for (let c = 0; c < length; c++) {
      const { count, keys: from } = old[c]!;
      for (let r = 0; r < count; r++, i++) {
        keys[i] = from[r]!;
        // A chunk holds at most 2^19 bytes, so fewer records, or one; windows have fewer than 2^13 chunks.
        places[i] = c * 0x80000 + r;
        order[i] = i;
      }
    }
    order.sort((a, b) => keys[a]! - keys[b]! || a - b);
    // A chunk whose last record has been copied takes others: late packets are few streams, so that few chunks more are needed.
    const left = old.map(({ count }) => count);
    this.#window = [];
    this.#held = 0;
    let chunk: Chunk | undefined;
    for (const index of order) {
      const place = places[index]!;
      const from = place >>> 19;
      const source = old[from]!;
      const record = place & 0x7ffff;
      const start = source.starts[record]!;
      const end = record + 1 < source.count ? source.starts[record + 1]! : source.used;
      if (chunk === undefined || chunk.used + end - start > chunk.bytes.length) chunk = this.#append(end - start);
      chunk.newest = keys[index]!;
      chunk.keys[chunk.count] = keys[index]!;
      chunk.starts[chunk.count++] = chunk.used;
      chunk.bytes.set(source.bytes.subarray(start, end), chunk.used);
      chunk.used += end - start;
      if (--left[from]! === 0) this.recycle(source);
    }
    this.#disordered = false;
  }

  /** Adds a chunk to the window that takes a record of so many bytes. */
  #append(bytes: number): Chunk {
    const chunk = bytes > CHUNK_BYTES ? new Chunk(bytes) : this.#spare.pop() ?? new Chunk();
    this.#window.push(chunk);
    this.#held += chunk.bytes.length;
    return chunk;
  }
}
