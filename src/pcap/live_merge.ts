/**
 * Merges captures that are still coming in, from several controllers, into one stream that Wireshark reads as it goes.
 *
 * The present content of the rings comes first, in strict order. Later a packet is passed on when every other
 * pod has shown a later one or was silent for a second. A late packet stands late, with its own timestamp. A
 * controller's comments are in its first interface's, its last statistics at the end.
 */
import { settledWithin } from "../base/timeout.ts";
import type { ByteSource } from "./bytes.ts";
import { MergeInput, putStatistics } from "./merge_input.ts";
import { PacketWriter } from "./writer.ts";

/**
 * Milliseconds for which packets of one pod wait for another pod's, which may be older. Controllers are up to 1.5 s behind, most of it
 * the kernel's own second; waiting longer would not show the packets in better order, only later.
 */
const PATIENCE_MS = 1000;
/** Milliseconds more before the first bytes, in which kubectl connects. */
const START_MS = 4000;
/** Bytes taken from one controller ahead of the others. */
const AHEAD = 1024 * 1024;
/** A block that is longer than this is no block (see pcapng.ts): bytes. */
const LONGEST_BLOCK = 2 * 1024 * 1024;

export interface LiveMergeOptions {
  readonly application: string;
  /** Writes bytes; awaited, so that a slow reader slows the controllers. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** Handles each source that has ended, with the error that ended it, if one did. */
  readonly ended: (index: number, error: unknown) => void;
}

/**
 * Writes the packets of all sources, oldest first as far as they are there, until all sources have ended, and then the statistics that
 * they have given. A source's comments are written with its first interface.
 */
export async function mergeLive(
  sources: readonly ReadableStream<Uint8Array<ArrayBuffer>>[],
  { application, write, ended }: LiveMergeOptions,
): Promise<void> {
  let wake = () => {};
  const inputs = sources.map((source) => new LiveSource(source, () => wake()));
  const output = new PacketWriter({ write, asTheyCome: true });
  await output.begin({ application }, []);
  const reported = new Set<LiveSource>();
  try {
    for (;;) {
      const next = nextOf(inputs, performance.now());
      if (next instanceof MergeInput) {
        if (next.hasNewInterface) await next.addInterfaces(output, next.reader.comments);
        next.addPacket(output);
        if (output.isFull) await output.drain();
        continue;
      }
      await output.flush();
      for (const [index, input] of inputs.entries()) {
        if (!input.isSpent || reported.has(input)) continue;
        reported.add(input);
        ended(index, input.error);
      }
      if (reported.size === inputs.length) {
        await putStatistics(inputs.map(({ packets }) => packets), output);
        break;
      }
      // What arrives, ends or has waited long enough from here on resolves it.
      const waiting = Promise.withResolvers<void>();
      wake = waiting.resolve;
      if (!inputs.some((input) => input.hasNews)) await settledWithin(next, waiting.promise);
    }
  } finally {
    await Promise.all(inputs.map((input) => input.cancel()));
  }
}

/**
 * Returns the input whose packet is to be written now, or after how many milliseconds to look again if nothing
 * arrives.
 */
function nextOf(inputs: readonly LiveSource[], now: number): MergeInput | number {
  let oldest: MergeInput | undefined, wait = 0;
  for (const input of inputs) {
    input.hasNews = false;
    const { packets } = input;
    if (packets.look()) {
      if (oldest === undefined || packets.isBefore(oldest)) oldest = packets;
    } else if (!input.isSpent) {
      wait = Math.max(wait, input.lastCame + PATIENCE_MS - now);
    }
  }
  if (oldest === undefined) return Infinity;
  return wait > 0 ? wait : oldest;
}

/** The bytes of one capture: gathered ahead of the others, read by whole blocks. */
class LiveSource implements ByteSource {
  readonly packets = new MergeInput(this);
  /** Time at which bytes came last, by performance.now(). */
  lastCame = performance.now() + START_MS;
  error: unknown;
  /** Whether something has come, or it has ended, after this was set to false. */
  hasNews?: boolean;
  readonly #stream: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  readonly #wake: () => void;
  /** Bytes that have come; `#whole` of it are whole blocks, `#taken` have been read. */
  #bytes = new Uint8Array(AHEAD);
  #length = 0;
  #whole = 0;
  #taken = 0;
  #closed = false;
  #resume = () => {};

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>, wake: () => void) {
    this.#stream = stream.getReader();
    this.#wake = wake;
    this.#receive();
  }

  /** Returns whether it has ended and all of it was written. */
  get isSpent(): boolean {
    return this.#closed && !this.packets.look();
  }

  /** Hands whole blocks to the reader, which takes half a block for damage. */
  read(into: Uint8Array): number {
    const length = Math.min(into.length, this.#whole - this.#taken);
    into.set(this.#bytes.subarray(this.#taken, this.#taken + length));
    this.#taken += length;
    this.#resume();
    return length;
  }

  async cancel(): Promise<void> {
    await this.#stream.cancel().catch(() => {});
  }

  async #receive(): Promise<void> {
    try {
      while (!this.#closed) {
        // Of whole blocks: one that is longer has to come in before any of it can be read.
        if (this.#whole - this.#taken >= AHEAD) await new Promise<void>((resolve) => this.#resume = resolve);
        const { value, done } = await this.#stream.read();
        if (done) break;
        this.#append(value);
        this.lastCame = performance.now();
        this.#news();
      }
      if (this.#length > this.#whole) throw new Error("the connection broke within a packet");
    } catch (error) {
      this.error = error;
      await this.#stream.cancel().catch(() => {});
    }
    this.#closed = true;
    this.#news();
  }

  #news(): void {
    this.hasNews = true;
    this.#wake();
  }

  #append(chunk: Uint8Array): void {
    const kept = this.#length - this.#taken;
    if (this.#length + chunk.length > this.#bytes.length) {
      const target = kept + chunk.length > this.#bytes.length ? new Uint8Array(2 * (kept + chunk.length)) : this.#bytes;
      target.set(this.#bytes.subarray(this.#taken, this.#length));
      this.#bytes = target;
      this.#whole -= this.#taken;
      this.#length = kept;
      this.#taken = 0;
    }
    this.#bytes.set(chunk, this.#length);
    this.#length += chunk.length;
    const view = new DataView(this.#bytes.buffer);
    // The controller's writer is little-endian (pcapng_blocks.ts).
    while (this.#length - this.#whole >= 8) {
      const block = view.getUint32(this.#whole + 4, true);
      if (block < 12 || block % 4 !== 0 || block > LONGEST_BLOCK) throw new Error("what came is not pcapng");
      if (this.#length - this.#whole < block) break;
      this.#whole += block;
    }
  }
}
